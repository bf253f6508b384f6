"""Durable publishing: in which order, in groups, and what is left when the disk refuses or a greenlet is killed."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPool

from geofetch.errors import StoreError
from geofetch.store import FileStore, group, syncing
from geofetch.store.filepart import FilePart
from geofetch.testing.store import HEAD, attempt, descriptors, digests_of, put, written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "srv"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root, durable=True)
    yield store
    store.close()


class _Disk:
    """What is synced and renamed, in order; ``refuse`` names a path whose sync fails, ``gate`` holds every file's."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        self.refuse: Callable[[str], bool] = lambda path: False
        self.gate: tuple[int, int] | None = None
        self.entered, self._entered = os.pipe()
        self._fsync, self._rename = os.fsync, os.rename
        patch.setattr(os, "fsync", self._syncing)
        patch.setattr(os, "rename", self._renaming)

    def _syncing(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if self.gate is not None and ".part-" in path:
            os.write(self._entered, b"!")
            os.read(self.gate[0], 1)  # on the native thread
        self.seen.append(("sync", path))
        if self.refuse(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(fd)

    def _renaming(self, old: str, new: str) -> None:
        self.seen.append(("rename", new))
        self._rename(old, new)

    def hold(self) -> None:
        self.gate = os.pipe()

    def release(self, count: int = 1) -> None:
        assert self.gate is not None
        os.write(self.gate[1], b"!" * count)

    def end(self) -> None:
        for fd in (self.entered, self._entered, *(self.gate or ())):
            os.close(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Disk]:
    disk = _Disk(monkeypatch)
    yield disk
    disk.end()


def _entered(disk: _Disk) -> None:
    """Wait, cooperatively, until a native thread stands in a sync."""
    gevent.get_hub().wait(gevent.get_hub().loop.io(disk.entered, 1))
    os.read(disk.entered, 1)


def _parts(root: Path) -> list[Path]:
    return sorted(root.rglob(".part-*"))


def test_the_order_is_file_name_folder_and_every_new_folder_above(
    store: FileStore, root: Path, disk: _Disk, tmp_path: Path
) -> None:
    part = written(store, b"x", "d/e/a")
    part.publish({})
    first, *rest = disk.seen
    assert first == ("sync", part.path)
    assert rest[0] == ("rename", f"{root}/d/e/a")
    assert sorted(rest[1:]) == [("sync", str(path)) for path in sorted([tmp_path, root, root / "d", root / "d/e"])]
    disk.seen.clear()
    put(store, b"y", "d/e/b")
    assert [step for step in disk.seen if step[0] == "sync"][1:] == [("sync", f"{root}/d/e")]


def test_in_a_digest_layout_the_bytes_and_the_link_are_both_synced(root: Path, disk: _Disk) -> None:
    store = FileStore(root, layout="digest", durable=True)
    put(store, b"x", "d/a")
    blob = os.path.realpath(root / "d/a")
    synced = {path for what, path in disk.seen if what == "sync"}
    assert {str(Path(blob).parent), f"{root}/d", f"{root}/sha256", str(root)} <= synced
    disk.seen.clear()
    put(store, b"x", "d/b")  # the same bytes: those that are there must last, too
    assert blob in {path for what, path in disk.seen if what == "sync"}
    store.close()


def test_files_that_are_published_together_share_the_sync_of_their_folder(
    store: FileStore, root: Path, disk: _Disk
) -> None:
    put(store, b"x", "first")
    disk.seen.clear()
    gevent.joinall([gevent.spawn(put, store, b"%d" % number, f"{number}") for number in range(20)], raise_error=True)
    assert [path for what, path in disk.seen if what == "sync" and ".part-" not in path] == [str(root)]
    assert sorted(store.keys()) == sorted(["first", *map(str, range(20))])


@pytest.fixture
def together(disk: _Disk, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files by whose descriptor a whole file system was synced, wherever these tests run."""
    asked: list[str] = []

    def syncfs(fd: int) -> None:
        asked.append(os.readlink(f"/proc/self/fd/{fd}"))
        disk.seen.append(("syncfs", ""))

    monkeypatch.setattr(syncing, "together", lambda device: True)
    monkeypatch.setattr(syncing, "syncfs", syncfs)
    return asked


def _published(store: FileStore, parts: list[FilePart]) -> list[Any]:
    return [job.get() for job in [gevent.spawn(_tried, part) for part in parts]]


def _many(store: FileStore, count: int = 20) -> list[FilePart]:
    return [written(store, b"%d" % number, f"{number}") for number in range(count)]


def test_many_files_are_synced_by_one_call_before_any_has_its_name(
    store: FileStore, root: Path, disk: _Disk, together: list[str]
) -> None:
    parts = _many(store)
    _published(store, parts[::-1])
    # The descriptor that was opened first: what failed before another one was opened, that one would not tell.
    assert together == [parts[0].path]
    steps = [what for what, path in disk.seen if what != "sync" or ".part-" in path]
    assert steps == ["syncfs", *["rename"] * 20]
    assert all((root / f"{number}").read_bytes() == b"%d" % number for number in range(20))


def test_where_one_call_is_not_to_be_trusted_each_file_is_synced(
    store: FileStore, disk: _Disk, together: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "together", lambda device: False)
    parts = _many(store)
    _published(store, parts)
    assert together == []
    assert {path for what, path in disk.seen if what == "sync"} >= {part.path for part in parts}


def test_when_one_call_fails_the_file_whose_fault_it_was_is_found(
    store: FileStore, root: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch, together: list[str]
) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syncing, "syncfs", failing)
    parts = _many(store)
    disk.refuse = lambda path: path == parts[7].path
    results = _published(store, parts)
    assert [number for number, result in enumerate(results) if isinstance(result, StoreError)] == [7]
    parts[7].discard()
    assert sorted(path.name for path in root.iterdir()) == sorted([".geofetch", *(f"{n}" for n in range(20) if n != 7)])


def test_a_call_that_had_much_of_others_to_write_is_not_made_again_soon(
    store: FileStore, together: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "SLOW_S", 0.0)
    monkeypatch.setattr(group, "ONE_BY_ONE", 2)
    for _ in range(4):
        _published(store, _many(store))
    assert len(together) == 2  # the first and, two groups later, the fourth


def test_files_of_another_file_system_are_synced_by_themselves(
    store: FileStore, disk: _Disk, together: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _many(store)
    monkeypatch.setattr(FilePart, "device", property(lambda part: 1 if part is parts[3] else 2))
    _published(store, parts)
    assert len(together) == 1
    assert [path for what, path in disk.seen if what == "sync" and ".part-" in path] == [parts[3].path]


def test_a_real_file_system_is_synced_and_known_by_its_type(root: Path, tmp_path: Path) -> None:
    assert not syncing.together(os.stat("/proc").st_dev)
    assert syncing._file_system(os.stat("/proc").st_dev) == "proc"
    with open(tmp_path / "a", "wb") as file:
        file.write(b"x")
        file.flush()
        syncing.syncfs(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syncing.syncfs(10**6)
    assert caught.value.errno == errno.EBADF


def test_a_sync_that_fails_is_not_tried_again_and_nothing_is_published(
    store: FileStore, root: Path, disk: _Disk
) -> None:
    good, bad = written(store, b"good", "good"), written(store, b"bad", "bad")
    disk.refuse = lambda path: path == bad.path
    publishing = [gevent.spawn(_tried, part) for part in (good, bad)]
    (location, _), error = [job.get() for job in publishing]
    assert isinstance(error, StoreError)
    assert error.errno == errno.EIO
    assert bad.path in str(error)
    bad.discard()
    assert location.read_bytes() == b"good"
    assert not (root / "bad").exists()
    assert _parts(root) == []
    assert disk.seen.count(("sync", bad.path)) == 1


def _tried(part: FilePart) -> Any:
    try:
        return part.publish({})
    except StoreError as exc:
        return exc


def test_a_folder_that_does_not_sync_is_an_error_and_the_file_is_whole(
    store: FileStore, root: Path, disk: _Disk
) -> None:
    disk.refuse = lambda path: path == str(root)
    part = written(store, b"whole", "a")
    with pytest.raises(StoreError, match="syncing"):
        part.publish({})
    part.discard()
    assert (root / "a").read_bytes() == b"whole"
    disk.refuse = lambda path: False
    disk.seen.clear()
    put(store, b"other", "b")
    # The root was made by this store, and nothing has confirmed it yet: its own parent is synced again.
    assert ("sync", str(root.parent)) in disk.seen


@pytest.mark.parametrize("kills", [1, 2])
def test_who_is_killed_during_a_sync_leaves_nothing(store: FileStore, root: Path, disk: _Disk, kills: int) -> None:
    part = written(store, b"x", "a")
    disk.hold()
    publishing = gevent.spawn(part.publish, {})
    _entered(disk)
    for _ in range(kills):
        publishing.kill(block=False)
        gevent.sleep(0)
    assert not publishing.dead  # a native thread has the file's descriptor
    disk.release()
    publishing.join()
    assert isinstance(publishing.value, gevent.GreenletExit)
    part.discard()
    assert not (root / "a").exists()
    assert _parts(root) == []


def test_who_is_killed_after_the_rename_has_published(store: FileStore, root: Path, disk: _Disk) -> None:
    part = written(store, b"whole", "a")
    publishing = gevent.spawn(part.publish, {})
    rename = os.rename

    def renaming(old: str, new: str) -> None:
        rename(old, new)
        gevent.get_hub()  # of this native thread
        loop.run_callback_threadsafe(lambda: publishing.kill(block=False))

    loop = gevent.get_hub().loop
    os.rename = renaming  # type: ignore[assignment]
    try:
        publishing.join()
    finally:
        os.rename = rename
    part.discard()
    assert (root / "a").read_bytes() == b"whole"
    assert _parts(root) == []


def test_who_is_killed_before_its_turn_ends_at_once(store: FileStore, root: Path, disk: _Disk) -> None:
    first, second = written(store, b"1", "first"), written(store, b"2", "second")
    disk.hold()
    one = gevent.spawn(first.publish, {})
    _entered(disk)
    two = gevent.spawn(second.publish, {})
    gevent.sleep(0)
    two.kill(timeout=5)
    assert two.dead
    second.discard()
    disk.release(2)
    one.get()
    assert [path.name for path in root.iterdir() if path.is_file()] == ["first"]


@pytest.mark.parametrize("another", [False, True], ids=["alone", "and-another-comes"])
def test_nobody_waits_for_ever_when_a_group_is_killed_before_it_began(
    store: FileStore, root: Path, another: bool
) -> None:
    first, second = written(store, b"1", "first"), written(store, b"2", "second")

    def kill() -> None:
        running = (one for one in gc.get_objects() if type(one) is gevent.Greenlet and not one.dead)
        (runner,) = (one for one in running if one.name == "geofetch-store-group")
        runner.kill(block=False)
        if another:  # before anybody could be told
            second.publish({})

    killing = gevent.spawn(kill)  # begins before the group that it kills
    with gevent.Timeout(10):
        if another:
            first.publish({})
            killing.get()
        else:
            with pytest.raises(StoreError, match="interrupted"):
                first.publish({})
            first.discard()
            second.publish({})
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == ["first", "second"][not another :]


def test_a_discard_waits_for_a_write_on_a_native_thread_also_when_killed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(root)
    part = store.begin(attempt("a"), HEAD)
    waiting, release = os.pipe()
    entered, enter = os.pipe()
    write = os.write

    def slow(fd: int, view: Any) -> int:
        if os.readlink(f"/proc/self/fd/{fd}") == part.path:
            write(enter, b"!")
            os.read(waiting, 1)
        return write(fd, view)

    monkeypatch.setattr(os, "write", slow)
    before = descriptors()
    pool = ThreadPool(1)
    writing = pool.spawn(part.write, memoryview(b"bytes"))
    gevent.get_hub().wait(gevent.get_hub().loop.io(entered, 1))
    discarding = gevent.spawn(part.discard)
    for _ in range(2):
        gevent.sleep(0)
        discarding.kill(block=False)
    gevent.sleep(0)
    assert not discarding.dead
    assert any(target == part.path for _, target in descriptors())
    write(release, b"!")
    discarding.join()
    writing.get()
    assert isinstance(discarding.value, gevent.GreenletExit)
    assert _parts(root) == []
    assert not any(target.startswith(part.path) for _, target in descriptors() - before)
    pool.kill()
    store.close()
    for fd in (waiting, release, entered, enter):
        os.close(fd)


def test_one_store_serves_several_native_threads_at_once(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "srv", durable=True)
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            gevent.joinall(
                [gevent.spawn(put, store, name.encode(), f"{name}/{number}") for number in range(10)], raise_error=True
            )
        except BaseException as exc:
            failed.append(exc)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(list(store.keys())) == 30
    store.close()
    assert not (tmp_path / "srv/.geofetch").exists()


def test_digests_are_not_needed_by_path_and_are_by_digest(tmp_path: Path) -> None:
    store = FileStore(tmp_path, layout="digest")
    part = written(store, b"x")
    with pytest.raises(StoreError, match="sha256"):
        part.publish(digests_of(b"x", "md5"))
    part.discard()
    assert _parts(tmp_path) == []
    store.close()
