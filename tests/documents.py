"""The documents as programs: their examples are run, their tables are read.

In: reStructuredText.  Out: the steps in it, in order, and the rows of its tables.  Run as a program it carries out the
steps of one document, in a new interpreter and the current folder, and ends with a traceback at the first that fails.
Never: an example that is left out in silence; one that cannot be run says why, in a comment ``.. not run: because …``
above it.

    python    run as it stands; lines that begin with >>> are held against what stands below them
    console   $ lines are run by bash, and held against what stands below them, ... standing for anything;
              a $ line that ends in & is a server: it is waited for until it listens, and ended with the document
"""

from __future__ import annotations

import doctest
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import until

_BLOCK = re.compile(r"( *)\.\. code-block:: (\w+)\s*")
_NOT_RUN = re.compile(r" *\.\. not run: (.+)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
STEP_MOST_S = 60


@dataclass(frozen=True)
class Step:
    """One example: its language, the line it begins in, its text; ``not_run`` says why it is only shown."""

    language: str
    line: int
    text: str
    not_run: str = ""


def steps(text: str) -> Iterator[Step]:
    """The examples of a document."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        found = _BLOCK.fullmatch(line)
        if found and found[2] in ("python", "console"):
            above = next((one for one in reversed(lines[:at]) if one.strip()), "")
            excused = _NOT_RUN.fullmatch(above)
            first, body = _body(lines, at + 1, len(found[1]))
            yield Step(found[2], first + 1, body, excused[1] if excused else "")


def _body(lines: list[str], at: int, indent: int) -> tuple[int, str]:
    while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith(":")):
        at += 1
    end = at
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    inner = lines[at:end]
    margin = min(len(line) - len(line.lstrip()) for line in inner if line.strip())
    return at, "\n".join(line[margin:] for line in inner).rstrip() + "\n"


def rows(text: str, name: str) -> list[list[str]]:
    """The rows of the list-table of this name, its head left out; white space within a cell is one space."""
    found: list[list[str]] = []
    table = text.partition(f":name: {name}\n")[2]
    assert table, f"no table is called {name}"
    for line in table.splitlines():
        if line and not line.startswith(" "):
            break
        cell = re.match(r"   (\*| ) -(?: (.*))?$", line)
        if cell and cell[1] == "*":
            found.append([cell[2] or ""])
        elif cell:
            found[-1].append(cell[2] or "")
        elif found and line.strip():
            found[-1][-1] = f"{found[-1][-1]} {line.strip()}".strip()
    return found[1:]


def literal(text: str, mark: str) -> list[str]:
    """The lines of the literal block below the comment ``.. mark``."""
    after = text.partition(f".. {mark}\n")[2]
    assert after, f"no comment says {mark!r}"
    return _body(after.splitlines(), after.splitlines().index("::") + 1, 0)[1].splitlines()


def plan(document: str, swaps: Mapping[str, str]) -> str:
    """What the program below is given: the steps, with the addresses of this run."""
    return json.dumps({"swaps": dict(swaps), "steps": [asdict(step) for step in steps(document)]})


# ------------------------------------------------------------------------------------------------------- as a program


class _Run:
    def __init__(self, swaps: Mapping[str, str], servers: ExitStack) -> None:
        self._swaps = swaps
        self._servers = servers
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def step(self, step: Step) -> None:
        text = self._there(step.text)
        if step.language == "console":
            self._console(text)
        elif ">>> " in text:
            self._session(text, step.line)
        else:
            exec(compile(text, f"line {step.line}", "exec"), self._names)

    def _there(self, text: str) -> str:
        for shown, real in self._swaps.items():
            text = text.replace(shown, real)
        return text

    def _back(self, text: str) -> str:
        for shown, real in self._swaps.items():
            text = text.replace(real, shown)
        return text

    def _session(self, text: str, line: int) -> None:
        test = doctest.DocTestParser().get_doctest(text, self._names, f"line {line}", None, line)
        runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
        test.globs = self._names
        if runner.run(test, clear_globs=False).failed:
            sys.exit(1)

    def _console(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            count = 1
            while lines[count - 1].endswith("\\"):
                count += 1
            command, wanted = "\n".join(lines[:count]), "\n".join(lines[count:]).strip()
            if command.endswith("&"):
                self._serve(command.rstrip("& "))
            else:
                self._command(command, wanted)

    def _serve(self, command: str) -> None:
        found = re.search(r"\b(\d{4,5})\b", command)
        assert found, f"which port does it listen on? {command}"
        server = self._servers.enter_context(
            subprocess.Popen(["bash", "-c", _shell(f"exec {command}")], stderr=subprocess.DEVNULL)
        )
        self._servers.callback(server.kill)
        until(lambda: _listens(int(found[1])) or server.poll() is not None, STEP_MOST_S, f"listening: {command}")
        assert server.poll() is None, f"it has ended: {command}"

    def _command(self, command: str, wanted: str) -> None:
        done = subprocess.run(
            ["bash", "-c", _shell(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_MOST_S,
            check=False,
        )
        said = self._back(done.stdout)
        assert done.returncode == 0, f"$ {command}\n{said}\nended with {done.returncode}"
        if wanted:
            right = doctest.OutputChecker().check_output(self._back(wanted) + "\n", said.strip() + "\n", FLAGS)
            assert right, f"$ {command}\nsaid\n{said}\nand not\n{wanted}"


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _shell(command: str) -> str:
    # The interpreter of the tests stands for "python", and its geofetch for the command.
    python = f"'{sys.executable}'"
    command = re.sub(r"(^|[|(;&] *|\bexec )python\b", lambda found: f"{found[1]}{python}", command)
    return f'geofetch() {{ {python} -m geofetch "$@"; }}\n{command}'


def main(path: str) -> None:
    told = json.loads(Path(path).read_text(encoding="utf-8"))
    with ExitStack() as servers:
        run = _Run(told["swaps"], servers)
        for one in told["steps"]:
            step = Step(**one)
            if not step.not_run:
                try:
                    run.step(step)
                except BaseException:
                    print(f"the example in line {step.line} failed", file=sys.stderr)
                    raise


if __name__ == "__main__":
    main(sys.argv[1])
