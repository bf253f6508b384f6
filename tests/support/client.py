"""A pool in a process of its own, for what cannot be done to the process of the tests: other users, limits, mounts.

In: its limits and its jobs as JSON on stdin.  Out: a line of JSON on stdout: for each job what became of each spec, and
which records there are.  After each job it holds itself against the time before: a descriptor, greenlet or part that is
left over is an error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from geofetch import plan
from geofetch.events import Outcome
from geofetch.lane import Lane
from geofetch.pool import Pool, fetch
from geofetch.records import Recorder
from geofetch.store import FileStore, OneFile, native
from geofetch.transport import pools as connections

from .leftovers import Leftovers

__all__ = ["told", "units_of"]


def told(outcome: Outcome) -> dict[str, Any]:
    """An Outcome as plain values."""
    error = outcome.error
    return {
        "path": outcome.spec.path,
        "state": outcome.state,
        "location": None if outcome.location is None else str(outcome.location),
        "size": outcome.size,
        "fetched": outcome.fetched,
        "sources": [attempt.source.url for attempt in outcome.attempts if attempt.source is not None],
        "error": None if error is None else type(error).__name__,
        "errno": getattr(error, "errno", None),
        "verdict": None if error is None else plan.verdict(error).name,
        "message": str(error),
        "cause": type(error.__cause__).__name__ if error is not None else None,
    }


def units_of(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """What is recorded, by path."""
    return {
        unit.path: {
            "state": unit.state,
            "key": unit.store_key,
            "size": unit.size,
            "digests": {digest.algorithm: digest.hex for digest in unit.digests},
        }
        for unit in recorder.units()
    }


def _store(job: Mapping[str, Any]) -> Any:
    if job["kind"] == "one":
        return OneFile(job["root"], durable=job["durable"])
    return FileStore(job["root"], layout=job["kind"], durable=job["durable"], links=job["links"])


@contextmanager
def _recorder(job: Mapping[str, Any]) -> Iterator[Recorder | None]:
    if job["records"] is None:
        yield None
        return
    with Recorder(job["records"], durable=job["durable"]) as recorder:
        yield recorder


def _warm(url: str | None) -> None:
    """Make what a process makes once and keeps: modules that load late, native threads."""
    lane = Lane([len])
    lane.put(b"x" * (2 << 20))
    lane.finish()
    for kind in (native.READ, native.SYNC):
        native.call(int, kind=kind)
    gevent.get_hub().threadpool.apply(int)
    if url is not None:
        fetch(url).location.close()
    with Recorder("sqlite:///:memory:") as recorder:
        assert recorder.count() == 0
    connections.shared().close()


def _limited(order: Mapping[str, Any]) -> None:
    if order["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    if order["user"] is not None:
        os.seteuid(order["user"])


def carried_out(job: Mapping[str, Any]) -> dict[str, Any]:
    """One job, from an open pool to a closed one."""
    leftovers = Leftovers(Path(job["root"]))
    store = _store(job)
    with _recorder(job) as recorder:
        with Pool(job["size"], store=store, recorder=recorder, progress=False, retries=job["retries"]) as pool:
            outcomes = list(pool.imap(job["specs"]))
        units = units_of(recorder) if recorder is not None else {}
    store.close()
    leftovers.first(lambda: connections.shared().close())
    leftovers.check()
    return {"outcomes": list(map(told, outcomes)), "units": units}


def main() -> None:
    """One order."""
    plan.BACKOFF_S = 0.004
    order = json.load(sys.stdin)
    _warm(order["warm"])
    _limited(order)
    print(json.dumps([carried_out(job) for job in order["jobs"]]), flush=True)


if __name__ == "__main__":
    main()
