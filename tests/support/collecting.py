"""A gc that SIGKILL strikes where it is told, and one that goes on as long as it is let: processes of their own.

In: orders as JSON lines on stdin.  Out: a line on stdout for each: whether it was killed, else the sum of what it did.
A gc runs in a fork of this process, which has imported everything and never woken gevent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from geofetch import FileStore, Recorder, upkeep
from geofetch.records.clearing import Clearing
from geofetch.store.s3 import S3Store

from .killing import in_a_fork
from .objects import KEY, SECRET

__all__ = ["POINTS", "store_of"]

#: Where a kill may strike: before a step, and after it, once it is committed.
POINTS = ("forget", "take", "remove", "settle")


def store_of(place: str, endpoint: str | None) -> Any:
    """A store by digest: a folder, or the URL of a prefix."""
    if endpoint is None:
        return FileStore(place, layout="digest")
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    return S3Store(place, endpoint=endpoint, layout="digest", **keys)


def _strike(owner: Any, point: str, number: int, after: bool) -> None:
    call, count = getattr(owner, point), 0

    def struck(*args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count < number:
            return call(*args, **more)
        if after:
            call(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, point, struck)


def _collected(order: dict[str, Any], log: int) -> None:
    store = store_of(order["place"], order["endpoint"])
    point, number, after = order["strike"]
    if point:
        _strike(type(store) if point == "remove" else Clearing, point, number, after)
    with Recorder(order["url"]) as recorder:
        done = upkeep.gc(recorder, store, grace_s=0, jobs=1)
    store.close()
    os.write(log, json.dumps(done.as_dict()).encode())


def _again_and_again(order: dict[str, Any], log: int) -> None:
    """One gc after the other until a file is there that says stop."""
    store, missing, removed = store_of(order["place"], order["endpoint"]), 0, 0
    with Recorder(order["url"]) as recorder:
        while not Path(order["until"]).exists():
            done = upkeep.gc(recorder, store, grace_s=0)
            Path(order["begun"]).touch()
            assert done.failed == 0, done.as_dict()
            missing += done.missing
            removed += done.removed
    store.close()
    os.write(log, json.dumps({"missing": missing, "removed": removed}).encode())


def main() -> None:
    """Order after order."""
    for line in sys.stdin:
        order = json.loads(line)
        work: Callable[[dict[str, Any], int], None] = _again_and_again if "until" in order else _collected
        status, said = in_a_fork(partial(work, order))
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer: dict[str, Any] = {"killed": True}
        else:
            assert status == 0, f"a gc ended with {status}"
            answer = {"killed": False, **json.loads(said)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
