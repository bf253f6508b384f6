"""FsspecStore, held against the suite that every store passes: a real FTP server, and filesystems of fsspec's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from geofetch import FsspecStore
from geofetch.testing.store import HandsOver, Keeps, Quarantines, Removes, StoreKind

from .support.ftp import FtpServer


@pytest.fixture(scope="module")
def ftp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    server = FtpServer(tmp_path_factory.mktemp("ftp"))
    yield server
    server.end()


def read(store: FsspecStore, location: str) -> bytes:
    assert location.startswith(store.name + "/")
    with store.open(unquote(location.removeprefix(store.name + "/"))) as file:
        return file.read()


def made(protocol: str, folder: Path, server: FtpServer | None, **how: Any) -> FsspecStore:
    if server is not None:
        # A test's folder is its own: so is one of its name there.
        return FsspecStore(server.url(f"{folder.parent.name}/{protocol}"), **server.options, **how)
    if protocol == "memory":
        return FsspecStore(f"memory://{folder.parent.name}", **how)
    import fsspec

    return FsspecStore(fsspec.filesystem("file"), str(folder), **how)


KINDS = [
    pytest.param(("ftp", {}), id="ftp"),
    pytest.param(("ftp", {"layout": "digest"}), id="ftp-by-digest"),
    pytest.param(("memory", {"proves": True}), id="memory-read-back"),
    pytest.param(("memory", {"layout": "digest"}), id="memory-by-digest"),
    pytest.param(("file", {"proves": True}), id="file-read-back"),
]


class TestFsspec(HandsOver, Keeps, Removes, Quarantines):
    @pytest.fixture(params=KINDS)
    def kind(self, request: pytest.FixtureRequest, ftp_server: FtpServer) -> StoreKind:
        protocol, how = request.param
        server = ftp_server if protocol == "ftp" else None
        return StoreKind(
            lambda folder: made(protocol, folder, server, **how), read, by_path=how.get("layout") != "digest"
        )
