"""JSON and tables on stdout, and nothing else there.

In: Outcomes, Units, sums.  Out: one JSON object a line, in ASCII.  Never: a secret; a blocked hub because a reader is
slow.  Downloads then wait, and nothing is lost.

``--json`` of get and sync: an object for each file as it ends

    event           "file"
    path            its path in the store
    state           stored, adopted, failed, cancelled
    ok              whether it is there now, proven
    url             the source it came from, or that failed last; null for an adopted one
    location        where it is; null if it is nowhere
    size_bytes      null: not known
    digests         those computed, by algorithm, in hex
    verified        digest, size, framing, nothing: what proved the bytes
    fetched_bytes   received for it, over all attempts
    attempts        how many sources were asked
    elapsed_s
    repository      null: none
    error           null, or {"type", "message", "url", "exit_code"}

of sync --later and --policy, where nothing is fetched

    event           "wanted"
    path
    state           wanted (it is not there), present (it is stored already), differs (stored, in another version)
    ok              whether it is there now, as it is listed
    policy          immediate, on_demand, streamed
    pending         "fetch": geofetch repair fetches it; null: nobody is told to
    repository      null: none

and, last, one for the whole

    event           "summary"
    command         get, sync
    ok, exit_code   what the process ends with
    files           {"stored", "adopted", "failed", "cancelled"}
    exit_codes      how many files failed for which code, {"7": 2}
    fetched_bytes, elapsed_s
    taken_off       units that left the repository; null without --mirror, or where not all that is listed is there
    wanted          files that were recorded and not fetched, {"wanted", "present", "differs"}; null: nobody asked
    signal          null, or the number of the signal that ended it
    error           null, or what stopped the whole, as above

A wrong usage is told on stderr alone.  URLs are without userinfo, the values of their queries masked.  Fields may be
added; none changes its meaning.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import codes

if TYPE_CHECKING:
    from ..events import Outcome

__all__ = ["Closed", "error_fields", "file_fields", "put", "put_line", "unwritten"]

#: POSIX: a pipe that is ready takes so many bytes without blocking (PIPE_BUF).
PIECE_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF


class Closed(Exception):
    """Whoever read stdout went away, or there never was one."""


#: What says that nobody reads: a pipe without a reader, a connection that is gone, a descriptor that is closed.
GONE = {errno.EPIPE, errno.ECONNRESET, errno.EBADF}


def put(fields: Mapping[str, Any]) -> None:
    """One object as a line; raises Closed, or StoreError where stdout is a file that cannot be written."""
    put_line(json.dumps(fields))


def put_line(text: str) -> None:
    """One line; other greenlets go on while the reader makes room.  Raises as ``put``."""
    put_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def put_bytes(data: bytes) -> None:
    try:
        sys.stdout.flush()
        number = sys.stdout.fileno()
    except (ValueError, AttributeError):
        raise Closed from None
    except OSError as exc:
        raise unwritten(exc) from None
    view = memoryview(data)
    while view:
        _wait_for_room(number)
        try:
            view = view[os.write(number, view[:PIECE_BYTES]) :]
        except BlockingIOError:
            continue
        except OSError as exc:
            raise unwritten(exc) from None


def unwritten(error: OSError) -> Exception:
    """What is raised where stdout could not be written."""
    # A disk that is full is no reader that went away: what was written is not whole, and somebody has to hear of it.
    if error.errno in GONE:
        return Closed()
    from ..errors import StoreError

    return StoreError(f"standard output cannot be written: {error.strerror}", errno=error.errno)


def _wait_for_room(number: int) -> None:
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    if poll.poll(0):
        return
    from gevent.socket import wait_write

    wait_write(number)


def file_fields(outcome: Outcome, clean: Any) -> dict[str, Any]:
    """The object of one file."""
    located = outcome.location
    return {
        "event": "file",
        "path": outcome.spec.path,
        "state": outcome.state,
        "ok": outcome.ok,
        "url": outcome.source.shown if outcome.source is not None else None,
        "location": os.fspath(located) if isinstance(located, str | os.PathLike) else None,
        "size_bytes": outcome.size,
        "digests": {name: digest.hex for name, digest in outcome.digests.items()},
        "verified": outcome.verified,
        "fetched_bytes": outcome.fetched,
        "attempts": sum(attempt.source is not None for attempt in outcome.attempts),
        "elapsed_s": round(outcome.elapsed_s, 3),
        "repository": outcome.spec.repository,
        "error": error_fields(outcome.error, clean),
    }


def error_fields(error: BaseException | None, clean: Any) -> dict[str, Any] | None:
    """The object of an error; None for none."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": clean(getattr(error, "message", None) or str(error)),
        "url": getattr(error, "url", None),
        "exit_code": codes.code_of(error),
    }
