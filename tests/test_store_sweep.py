"""What dead processes left is removed; what living ones hold is not.  The processes here are real ones."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from geofetch.spec import Spec
from geofetch.store import FileStore, OneFile, native
from geofetch.testing.store import HEAD, URL, attempt, descriptors, put, written

from .support.doors import Door
from .support.waiting import until

HERE = Path(__file__).resolve().parent.parent
#: Begins a part of the given target, says where, waits for a line, ends.
BEGIN = """
import sys
from geofetch.store import FileStore, OneFile
from geofetch.testing.store import written
root, kind, path = sys.argv[1:]
store = OneFile(root + "/" + path) if kind == "one" else FileStore(root, layout=kind)
part = written(store, b"half of it", path)
print(part.path, flush=True)
"""
AND_WAIT = BEGIN + "sys.stdin.readline()\n"
AND_EXIT = BEGIN + "sys.exit(0)\n"
IN_A_FORK = """
import os
if os.fork() == 0:
    part.discard()
    store.close()
    del part, store
    sys.exit(0)
os.wait()
print("the child has ended", flush=True)
sys.stdin.readline()
"""
AND_FORK = BEGIN + IN_A_FORK
#: Leaves a child that was forked before the part began, or after; says which process that is.
LEAVES_A_CHILD = """
import os, sys, time
from geofetch.store import FileStore
from geofetch.testing.store import put, written
root, begins, path = sys.argv[1:]
store = FileStore(root)
put(store, b"whole", "before")
part = written(store, b"half of it", path) if begins == "before" else None
child = os.fork()
if child:
    part = part or written(store, b"half of it", path)
    print(part.path, child, sep="\\n", flush=True)
time.sleep(60)
os._exit(0)
"""


class _Other:
    """Another process at work on a part."""

    def __init__(self, script: str, root: Path, kind: str, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(root), kind, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )
        assert self.process.stdout is not None
        self.part = Path(self.process.stdout.readline().strip())

    def die(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        self.process.communicate("\n")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., _Other]]:
    """Starts another process on this root."""
    begun: list[_Other] = []

    def begin(script: str = AND_WAIT, kind: str = "path", path: str = "deep/er/a") -> _Other:
        begun.append(_Other(script, tmp_path, kind, path))
        return begun[-1]

    yield begin
    for one in begun:
        one.die()


@pytest.fixture
def door() -> Iterator[Door]:
    """Opened at the end, also of a test that fails: a pool waits for its threads."""
    door = Door()
    yield door
    door.open()


def _markers(root: Path) -> list[Path]:
    return sorted(root.glob(".geofetch/running-*"))


@pytest.mark.parametrize("kind", ["path", "digest"])
def test_the_parts_of_a_killed_process_are_gone_before_the_next_run_begins(
    tmp_path: Path, other: Callable[..., _Other], kind: str
) -> None:
    dead = other(kind=kind)
    (tmp_path / "deep/er").mkdir(parents=True, exist_ok=True)
    (tmp_path / "deep/er/.partly").write_bytes(b"not ours")
    os.symlink("nowhere", tmp_path / "deep/.part-link")
    dead.die()
    assert dead.part.exists()
    assert len(_markers(tmp_path)) == 1
    store = FileStore(tmp_path, layout="path" if kind == "path" else "digest")
    store.ready()
    assert not dead.part.exists()
    assert not os.path.lexists(tmp_path / "deep/.part-link")
    assert _markers(tmp_path) == []
    assert (tmp_path / "deep/er/.partly").exists()
    put(store, b"x", "a")
    store.close()
    assert not (tmp_path / ".geofetch").exists()


def test_a_run_that_only_looks_removes_them_too(tmp_path: Path, other: Callable[..., _Other]) -> None:
    dead = other()
    dead.die()
    store = FileStore(tmp_path)
    store.ready()
    assert store.have(Spec(URL, path="a", size=1), None) is None
    assert not dead.part.exists()
    store.close()


def test_the_part_of_a_living_process_stays(tmp_path: Path, other: Callable[..., _Other]) -> None:
    living, dead = other(path="a"), other(path="b")
    dead.die()
    store = FileStore(tmp_path)
    put(store, b"x", "a")
    assert living.part.exists()
    assert not dead.part.exists()
    store.close()
    assert len(_markers(tmp_path)) == 1
    living.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_another_store_of_this_process_is_alive_too(tmp_path: Path) -> None:
    one, two = FileStore(tmp_path), FileStore(tmp_path)
    part = written(one, b"x", "a")
    (tmp_path / ".geofetch/running-dead").write_bytes(b"")
    put(two, b"y", "b")
    assert not (tmp_path / ".geofetch/running-dead").exists()
    assert part.publish({})[0].read_bytes() == b"x"
    two.close()
    one.close()
    assert not (tmp_path / ".geofetch").exists()


def test_a_tree_without_a_dead_marker_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/.part-foreign").write_bytes(b"")
    store = FileStore(tmp_path)
    put(store, b"x", "a")
    assert (tmp_path / "d/.part-foreign").exists()
    store.close()


def test_what_is_in_geofetch_folder_stays_there(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    put(store, b"x", "a")
    (tmp_path / ".geofetch/units.db").write_bytes(b"records")
    store.close()
    assert [path.name for path in (tmp_path / ".geofetch").iterdir()] == ["units.db"]


def test_a_process_that_ends_without_a_word_leaves_nothing(tmp_path: Path, other: Callable[..., _Other]) -> None:
    gone = other(AND_EXIT)
    gone.end()
    assert gone.process.returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_forked_child_that_ends_takes_nothing_of_its_parent(tmp_path: Path, other: Callable[..., _Other]) -> None:
    parent = other(AND_FORK)
    assert parent.process.stdout is not None
    assert parent.process.stdout.readline() == "the child has ended\n"
    FileStore(tmp_path).ready()
    assert parent.part.exists()
    assert len(_markers(tmp_path)) == 1
    parent.end()
    assert parent.process.returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.fixture
def orphan(other: Callable[..., _Other]) -> Iterator[Callable[[str], tuple[Path, int]]]:
    """The part of a process that died, begun ``before`` or ``after`` it forked, and its child, which lives."""
    left: list[int] = []

    def make(begins: str) -> tuple[Path, int]:
        parent = other(LEAVES_A_CHILD, kind=begins)
        assert parent.process.stdout is not None
        left.append(int(parent.process.stdout.readline()))
        parent.process.kill()
        parent.process.wait()
        return parent.part, left[-1]

    yield make
    for child in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_speak_for_a_parent_that_died(
    tmp_path: Path, orphan: Callable[[str], tuple[Path, int]]
) -> None:
    part, _ = orphan("after")
    assert part.exists()
    FileStore(tmp_path).ready()
    assert not part.exists()
    assert _markers(tmp_path) == []


def test_a_part_that_a_forked_child_holds_is_swept_after_the_child(
    tmp_path: Path, orphan: Callable[[str], tuple[Path, int]]
) -> None:
    part, child = orphan("before")
    FileStore(tmp_path).ready()
    assert part.exists()
    os.kill(child, signal.SIGKILL)

    def swept() -> bool:
        FileStore(tmp_path).ready()
        return not part.exists()

    until(swept)
    assert _markers(tmp_path) == []


def test_closed_with_a_part_open_a_store_still_guards_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    part = written(store, b"x", "a")
    store.close()
    assert len(_markers(tmp_path)) == 1
    assert part.publish({})[0].read_bytes() == b"x"
    put(store, b"y", "b")
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("busy", [native.THREADS, native.THREADS + 1], ids=["queued", "not-queued"])
def test_a_sweep_that_is_killed_before_it_began_is_left_to_the_next(
    tmp_path: Path, other: Callable[..., _Other], door: Door, busy: int
) -> None:
    dead = other()
    dead.die()
    native.settle_all(int, [()] * native.THREADS, native.READ)
    before = descriptors()
    others = [gevent.spawn(native.call, door.wait) for _ in range(busy)]
    until(lambda: door.waiting == native.THREADS)
    store = FileStore(tmp_path)
    sweeping = gevent.spawn(store.ready)
    gevent.sleep(0)
    assert descriptors() - before != set()
    sweeping.kill()
    assert descriptors() == before
    door.open()
    gevent.joinall(others, raise_error=True)
    assert dead.part.exists()
    store.ready()
    assert not dead.part.exists()
    assert _markers(tmp_path) == []
    store.close()


def test_a_sweep_that_has_begun_goes_on_when_its_caller_is_killed(
    tmp_path: Path, other: Callable[..., _Other], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = other()
    dead.die()
    native.settle_all(int, [()] * native.THREADS, native.READ)
    unlink = os.unlink

    def held(path: str) -> None:
        door.wait()
        unlink(path)

    monkeypatch.setattr(os, "unlink", held)
    store = FileStore(tmp_path)
    sweeping = gevent.spawn(store.ready)
    until(lambda: door.waiting == 1)
    sweeping.kill()
    store.ready()  # somebody is at it
    assert dead.part.exists()
    door.open()
    until(lambda: not any("running-" in target for _, target in descriptors()))
    assert not dead.part.exists()
    assert _markers(tmp_path) == []
    store.close()


def test_one_file_removes_what_was_left_of_itself_alone(tmp_path: Path, other: Callable[..., _Other]) -> None:
    mine, another, living = (other(kind="one", path=path) for path in ("a", "b", "a"))
    mine.die()
    another.die()
    store = OneFile(tmp_path / "a")
    store.begin(attempt("a"), HEAD).discard()
    assert [part.part.exists() for part in (mine, another, living)] == [False, True, True]
    store.close()
    assert not (tmp_path / ".geofetch").exists()
