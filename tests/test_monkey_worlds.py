"""Patched or not, and whenever it was patched: each call of tests/worlds/calls.py, in each world that promises it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from .worlds.calls import CALLS

HERE = Path(__file__).parent / "worlds"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URLs of a slow server in a process of its own, as JSON."""
    folder = tmp_path_factory.mktemp("worlds")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    signed = ca.issue_cert("localhost", "127.0.0.1")
    signed.private_key_pem.write_to_path(folder / "key.pem")
    for part in signed.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    server = subprocess.Popen(
        [sys.executable, HERE / "server.py", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdout is not None
        yield json.dumps({**json.loads(server.stdout.readline()), "ca": str(folder / "ca.pem")})
        server.kill()


def in_world(world: str, call: str, origin: str, limit_s: float = 60) -> float:
    """The seconds that a call took in a world of its own; fails with its traceback otherwise."""
    env = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper() and "CA_BUNDLE" not in name}
    env |= {"PYTHONPATH": str(HERE.parent.parent), "NO_PROXY": ""}
    env.pop("SSL_CERT_FILE", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "world.py", world, call, origin],
        capture_output=True,
        text=True,
        timeout=limit_s,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    elapsed: float = json.loads(done.stdout)["elapsed_s"]
    return elapsed


@pytest.mark.parametrize(
    ("world", "call"),
    [pytest.param(world, name, id=f"{name} · {world}") for name, call in CALLS.items() for world in call.worlds],
)
def test_a_call_keeps_its_promise_in_its_world(world: str, call: str, origin: str) -> None:
    elapsed_s = in_world(world, call, origin)
    assert elapsed_s < CALLS[call].under_s
