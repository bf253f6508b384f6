"""FsspecStore in the four worlds: nothing patched, requests patched, the process patched first, or late."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .support.ftp import PASSWORD, USER, FtpServer
from .test_monkey_worlds import in_world
from .test_s3_worlds import NOWHERE, WORLDS


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    server = FtpServer(tmp_path_factory.mktemp("ftp"))
    yield server
    server.end()


@pytest.mark.parametrize("world", WORLDS)
def test_an_ftp_server_is_a_store_in_every_world(
    world: str, served: FtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPEC_FTP_USERNAME", USER)
    monkeypatch.setenv("FSSPEC_FTP_PASSWORD", PASSWORD)
    monkeypatch.setenv("FTP", served.url(f"worlds-{world}"))
    in_world(world, "FsspecSuite", json.dumps(NOWHERE), limit_s=100)
