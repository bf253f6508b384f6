"""A hundred thousand specs through one pool, in a process of its own; run as a module, it prints what it saw as JSON.

In: how many, how long the consumer sleeps, where.  Out: the most that was pulled and not handed over, and resident
memory at the 10,000th outcome and at the last.  The source is in the process: a Session that answers from memory.
Never: a socket, a file, a record.
"""

from __future__ import annotations

import gc
import io
import json
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import gevent
from requests import PreparedRequest, Request, Response
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from geofetch.pool import Pool
from geofetch.session import Session
from geofetch.spec import Spec
from tests.support.diary import Dropping

SIZE = 16
SLEEPS = 20
MARK = 10_000
BODY = b"x" * 64


class Memory(Session):
    """A session that answers every request with the same 64 bytes, and spares what requests does for a real one."""

    def prepare_request(self, request: Request) -> PreparedRequest:
        prepared = PreparedRequest()
        prepared.url, prepared.headers = request.url, CaseInsensitiveDict()
        return prepared

    def merge_environment_settings(self, *about: Any) -> dict[str, Any]:
        return {}

    def send(self, request: PreparedRequest, **how: Any) -> Response:
        response = Response()
        response.status_code = 200
        response.url = request.url or ""
        response.headers = CaseInsensitiveDict({"Content-Length": str(len(BODY))})
        response.raw = HTTPResponse(io.BytesIO(BODY), headers=response.headers, status=200, preload_content=False)
        return response


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def flood(number: int, sleep_s: float, seed: int) -> dict[str, Any]:
    dice, taken, most = Random(seed), 0, 0
    naps = {dice.randrange(number) for _ in range(SLEEPS)}
    at_mark = 0

    def specs() -> Iterator[Spec]:
        nonlocal most
        for n in range(number):
            most = max(most, n + 1 - taken)
            yield Spec(f"http://memory.test/{n}", size=len(BODY))

    store = Dropping()
    began = time.monotonic()
    with Pool(SIZE, session=Memory(), store=store, progress=False) as pool:
        for outcome in pool.imap_unordered(specs()):
            taken += 1
            outcome.raise_for_error()
            if taken in naps:
                gevent.sleep(sleep_s)
            if taken == MARK:
                gc.collect()
                at_mark = resident()
    gc.collect()
    return {
        "outcomes": taken,
        "published": store.published,
        "most_ahead": most,
        "grown_bytes": resident() - at_mark,
        "took_s": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    print(json.dumps(flood(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
