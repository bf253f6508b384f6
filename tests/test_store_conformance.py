"""Every store of ours, held against the one suite."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from geofetch.store import FileStore, MemoryStore, OneFile, OneStream, TempStore
from geofetch.testing.store import HandsOver, Keeps, Quarantines, Removes, StoreKind


def _read_path(store: Any, location: Path) -> bytes:
    return location.read_bytes()


def _read_key(store: MemoryStore, location: str) -> bytes:
    return store[location]


def _read_open(store: Any, location: Any) -> bytes:
    with location:
        return bytes(location.read())


class _Stream:
    """A stream's file, of which only what came since the last look is read."""

    def __init__(self, real: bool) -> None:
        self.real = real
        self.seen = 0

    def make(self, folder: Path) -> OneStream:
        self.folder = folder
        self.file: Any = (folder.parent / "stream").open("w+b") if self.real else io.BytesIO()
        return OneStream(self.file)

    def read(self, store: Any, location: Any) -> bytes:
        assert location is self.file
        assert not location.closed
        end = location.tell()
        location.seek(self.seen)
        content = bytes(location.read())
        assert location.tell() == end
        self.seen = end
        return content


KEEPING = [
    pytest.param(StoreKind(FileStore, _read_path), id="files-by-path"),
    pytest.param(StoreKind(lambda at: FileStore(at, durable=True), _read_path), id="files-durable"),
    pytest.param(StoreKind(lambda at: FileStore(at, layout="digest"), _read_path), id="files-by-digest"),
    pytest.param(StoreKind(lambda at: FileStore(at, layout="digest", durable=True), _read_path), id="digest-durable"),
    pytest.param(
        StoreKind(lambda at: FileStore(at, layout="digest", links=None), _read_path, by_path=False), id="files-no-links"
    ),
    pytest.param(StoreKind(lambda at: OneFile(at / "one.bin"), _read_path, many=False), id="one-file"),
    pytest.param(StoreKind(lambda _: MemoryStore(), _read_key), id="memory"),
]
HANDING_OVER = [
    pytest.param(StoreKind(lambda at: FileStore(at, layout="digest", links="hardlink"), _read_path), id="hard-links"),
    pytest.param(StoreKind(lambda at: OneFile(f"{at}/"), _read_path, many=False), id="a-folder"),
    pytest.param(StoreKind(lambda _: TempStore(), _read_open), id="temporary"),
    pytest.param(StoreKind(lambda _: TempStore(spooled_bytes=100), _read_open), id="temporary-on-disk"),
]


class TestEveryStore(HandsOver):
    @pytest.fixture(params=[*KEEPING, *HANDING_OVER, "stream-in-memory", "stream-on-disk"])
    def kind(self, request: pytest.FixtureRequest) -> Any:
        if isinstance(request.param, StoreKind):
            yield request.param
            return
        stream = _Stream(real=request.param == "stream-on-disk")
        yield StoreKind(stream.make, stream.read)
        stream.file.close()


class TestEveryStoreThatKeeps(Keeps, Removes):
    @pytest.fixture(params=KEEPING)
    def kind(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestEveryStoreWithAQuarantine(Quarantines):
    @pytest.fixture(params=[one for one in KEEPING if one.id != "memory"])
    def kind(self, request: pytest.FixtureRequest) -> Any:
        return request.param
