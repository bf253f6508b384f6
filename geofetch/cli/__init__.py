"""The command: arguments into Specs, Outcomes into lines, JSON and an exit code.

In: argv, the environment, stdin.  Out: data on stdout, everything that is told to people on stderr, an exit code
(codes.py).  Never: a traceback for what a user can get wrong; a secret, wherever it came from; a step of a download.

    app          the commands, and what ``--help`` says
    options      the flags that several commands share
    codes        exit codes
    console      lines on stderr, logs among them, without secrets and fit for a terminal
    output       JSON and tables on stdout
    signals      Ctrl-C and SIGTERM
    work         one command from its first line to its exit code
    identity     headers, passwords, certificates: a Profile
    kept         profiles that are kept in a file, as the flags name them
    downloads    Specs through a Pool, every Outcome told
    places       where files and records are: --into, --db
    tables       rows under columns
    words        counts in sentences
    interrupted  notes of verifies that can be gone on with
    mending      what verify --repair and repair have in common
    get sync verify repair units sources repositories profiles doctor demo    the commands, one a module (profiles_add
                 and profiles_test belong to profiles, demo_steps and demo_origin to demo)

``--help`` imports click and the standard library; each command imports what it needs when it is run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    from .app import run

    try:
        return run(argv)
    except KeyboardInterrupt:  # before the handlers stood, or after them
        return 130
    finally:
        _flushed()


def _flushed() -> None:
    # A closed pipe is found out about now, and not by the interpreter, which would say so at its end.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            _muted(stream)


def _muted(stream: object) -> None:
    import os

    try:
        number = stream.fileno()  # type: ignore[attr-defined]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        return
