"""S3Store in the four worlds: nothing patched, requests patched, the process patched first, or late.

In one of the calls the endpoint has a name: a native thread that looks one up has a resolver of its own to end.
"""

from __future__ import annotations

import json
import os

import pytest

from .support.objects import KEY, SECRET, ObjectServer
from .test_monkey_worlds import in_world

WORLDS = ("nothing", "requests", "process", "late")
NOWHERE = dict.fromkeys(("http", "https", "slow_handshake", "proxy", "tls_proxy", "ca"), "http://127.0.0.1:9")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("call", "host"), [("ObjectSuite", "127.0.0.1"), ("ObjectPool", "localhost")])
def test_an_object_store_keeps_its_promise_in_every_world(
    call: str, world: str, host: str, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("ENDPOINT", object_server.endpoint.replace("127.0.0.1", host))
    monkeypatch.setenv("PREFIX", f"worlds-{os.urandom(4).hex()}")
    in_world(world, call, json.dumps(NOWHERE), limit_s=100)
