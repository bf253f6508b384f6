"""Files that are handed over: a temporary one, and a stream that the caller has open."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch.errors import SpecError, StoreError
from geofetch.store import OneStream, TempStore
from geofetch.store import spool as spool_room
from geofetch.testing.store import HEAD, attempt, put, written


def test_a_temporary_file_is_handed_over_at_its_first_byte_and_known_to_nobody() -> None:
    store = TempStore()
    location, kept = put(store, b"handed over")
    with location:
        assert (location.tell(), location.read(), kept) == (0, b"handed over", None)
    assert (store.name, list(store.keys()), store.stat("pool/a.bin")) == ("", [], None)


def test_a_stream_stands_behind_the_new_bytes_and_keeps_what_it_had(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w+b") as file:
        file.write(b"header ")
        store = OneStream(file)
        part = written(store, b"of a try that failed")
        part.discard()
        location, _ = put(store, b"body")
        assert location is file
        assert file.tell() == 11
        assert (tmp_path / "a").read_bytes() == b"header body"  # nothing waits in a buffer
        file.write(b" trailer")
    assert (tmp_path / "a").read_bytes() == b"header body trailer"


def test_nothing_is_in_the_stream_before_the_publish() -> None:
    file = io.BytesIO()
    part = written(OneStream(file), b"x" * (2 << 20))
    assert file.getvalue() == b""
    part.discard()


def test_a_wrapper_that_writes_little_at_a_time_gets_everything() -> None:
    class Slow(io.RawIOBase):
        got = b""

        def writable(self) -> bool:
            return True

        def write(self, view: Any) -> int:
            self.got += bytes(view[:1000])
            return min(1000, len(view))

    slow = Slow()
    content = os.urandom(50_000)
    put(OneStream(slow), content)  # type: ignore[arg-type]
    assert slow.got == content


def test_a_pipe_is_a_stream_too() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        location, _ = put(OneStream(file), b"through a pipe")
        assert location is file
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"through a pipe"


@pytest.mark.parametrize("opened", ["w", "r+"])
def test_a_file_that_is_open_for_text_is_refused(tmp_path: Path, opened: str) -> None:
    (tmp_path / "a").touch()
    with (tmp_path / "a").open(opened) as file, pytest.raises(SpecError, match="'wb'"):
        OneStream(file)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_written_is_refused_before_any_byte(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (tmp_path / "a").open("rb") as file, pytest.raises(StoreError, match="reading only"):
        OneStream(file).begin(attempt(), HEAD)
    with pytest.raises(StoreError, match="closed"):
        OneStream(file).begin(attempt(), HEAD)


def test_a_stream_that_refuses_gets_nothing_and_the_error_says_so(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, view: Any) -> int:
            if self.tell() > 200_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(view)

    file = Full()
    file.write(b"before")
    part = written(OneStream(file), bytes(500_000))
    with pytest.raises(StoreError, match="free some space") as caught:
        part.publish({})
    part.discard()
    assert caught.value.errno == errno.ENOSPC
    assert file.getvalue() == b"before"


def test_who_is_killed_while_copying_takes_back_what_was_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_room, "COPIED_BYTES", 1000)
    with (tmp_path / "a").open("w+b") as file:
        file.write(b"before")
        file.flush()
        part = written(OneStream(file), bytes(1_000_000))
        publishing = gevent.spawn(part.publish, {})
        while file.tell() < 5000:
            gevent.sleep(0)
        publishing.kill()
        assert isinstance(publishing.value, gevent.GreenletExit)
        part.discard()
        assert file.tell() == 6
    assert (tmp_path / "a").read_bytes() == b"before"


def test_two_files_in_one_stream_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "COPIED_ON_HUB_BYTES", 100)
    file = io.BytesIO()
    store = OneStream(file)
    parts = [written(store, letter * 10_000) for letter in (b"1", b"2")]
    gevent.joinall([gevent.spawn(part.publish, {}) for part in parts], raise_error=True)
    assert file.getvalue() == b"1" * 10_000 + b"2" * 10_000
