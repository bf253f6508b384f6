"""What the system refuses: full disks, limits, rights; two processes with one target (faults E1, E2, E5, E6, E21)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geofetch.errors import StoreError
from geofetch.store import FileStore, OneFile
from geofetch.testing.store import HEAD, attempt, descriptors, digests_of, put, written
from tests.support.apart import open_to_all

HERE = Path(__file__).resolve().parent.parent
#: What every script begins with; ``tried`` says how a call ended.
BEGIN = """
import errno, os, resource, sys
from pathlib import Path
from geofetch.errors import StoreError
from geofetch.store import FileStore, OneFile, TempStore
from geofetch.testing.store import HEAD, attempt, digests_of, put, written
root = Path(sys.argv[1])

def tried(call, *args):
    try:
        call(*args)
    except StoreError as exc:
        assert isinstance(exc.__cause__, OSError), exc.__cause__
        return errno.errorcode[exc.errno], str(exc)
    return "done", ""

def files(folder=root):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
"""


def _run(script: str, root: Path, *before: str) -> None:
    done = subprocess.run(
        [*before, sys.executable, "-c", BEGIN + script, str(root)], cwd=HERE, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "as promised\n"


def _namespace(tmp_path: Path, options: str) -> list[str]:
    """What a command begins with, so that it has a small file system of its own at ``tmp_path/small``."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o {options} none "{small}" && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("a private mount needs root; the limit on the size of files is tested all the same")
    return words


@pytest.mark.parametrize("durable", [False, True], ids=["", "durable"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, durable: bool) -> None:
    script = f"""
store = FileStore(root, durable={durable})
put(store, b"before", "small")
part = written(store, b"x" * 1000, "large")
kind, told = tried(part.write, memoryview(bytes(1 << 20)))
assert kind == "ENOSPC" and "free some space" in told and part.path in told, told
part.discard()
put(store, b"after", "small")
store.close()
assert files() == ["small"] and (root / "small").read_bytes() == b"after", files()
print("as promised")
"""
    _run(script, tmp_path / "small", *_namespace(tmp_path, "size=256k"))


def test_a_disk_without_inodes_is_told_before_any_byte(tmp_path: Path) -> None:
    script = """
store = FileStore(root)
store.begin(attempt("a"), HEAD).discard()
fillers = [open(root / f"filler{number}", "x") for number in range(5)]
try:
    while True:
        fillers.append(open(root / f"filler{len(fillers)}", "x"))
except OSError:
    pass
kind, told = tried(store.begin, attempt("a"), HEAD)
assert kind == "ENOSPC" and "inodes" in told, told
store.close()
print("as promised")
"""
    _run(script, tmp_path / "small", *_namespace(tmp_path, "nr_inodes=16"))


def test_a_read_only_file_system_is_refused_before_any_byte(tmp_path: Path) -> None:
    script = """
for store in (FileStore(root), FileStore(root / "not/there"), OneFile(root / "a")):
    kind, told = tried(store.ready)
    assert kind == "EROFS" and "read-only" in told and str(root) in told, told
print("as promised")
"""
    _run(script, tmp_path / "small", *_namespace(tmp_path, "ro"))


def test_a_limit_on_the_size_of_files_is_told_after_a_short_write(tmp_path: Path) -> None:
    _run(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
os.environ["TMPDIR"] = str(root)
store = FileStore(root / "srv")
part = written(store, b"x" * 900, "a")
kind, told = tried(part.write, memoryview(bytes(5000)))
assert kind == "EFBIG" and "ulimit -f" in told, told
assert os.stat(part.path).st_size == 1000
part.discard()
temporary = TempStore(spooled_bytes=10)
part = temporary.begin(attempt("a"), HEAD)
kind, told = tried(lambda: (part.write(memoryview(bytes(20000))), part.publish({})))
assert kind == "EFBIG", told
try:
    part.discard()
except OSError:
    pass
store.close()
assert files() == [], files()
print("as promised")
""",
        tmp_path,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_without_the_right_to_write_is_refused_before_any_byte(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "srv").mkdir(mode=0o755)
    _run(
        """
os.seteuid(65534)
for store in (FileStore(root / "srv"), FileStore(root / "srv/not/there"), OneFile(root / "srv/a")):
    kind, told = tried(store.ready)
    assert kind == "EACCES" and "right to write" in told and str(root / "srv") in told, told
store = FileStore(root / "srv")
kind, told = tried(store.begin, attempt("a"), HEAD)
assert kind == "EACCES", told
print("as promised")
""",
        tmp_path,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_may_not_be_read_is_not_had_and_can_be_replaced(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/a").write_bytes(b"x")
    (tmp_path / "srv/a").chmod(0o600)
    (tmp_path / "srv").chmod(0o777)
    _run(
        """
from geofetch.spec import Spec
os.seteuid(65534)
store = FileStore(root / "srv")
wanted = Spec("http://h/a", digests=list(digests_of(b"x").values()))
assert store.have(wanted, None) is None
put(store, b"x", "a")
assert store.have(wanted, None) is not None
store.close()
print("as promised")
""",
        tmp_path,
    )


def _failing(
    patch: pytest.MonkeyPatch, call: str, number: int, when: Any = lambda *args: True, of: Any = os
) -> list[Any]:
    """From now on this call of ``os``, or of another module, fails where ``when`` says so; how often it did."""
    real = getattr(of, call)
    failed: list[Any] = []

    def fail(*args: Any, **more: Any) -> Any:
        if when(*args):
            failed.append(args)
            raise OSError(number, os.strerror(number))
        return real(*args, **more)

    patch.setattr(of, call, fail)
    return failed


@pytest.mark.parametrize("kind", ["path", "digest", "one"])
@pytest.mark.parametrize(
    ("call", "number"),
    [
        pytest.param("rename", errno.ENOSPC, id="rename-disk-full"),
        pytest.param("rename", errno.EDQUOT, id="rename-quota"),
        pytest.param("dup", errno.EMFILE, id="no-descriptor-left"),
    ],
)
def test_a_name_that_cannot_be_given_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, call: str, number: int
) -> None:
    store = OneFile(tmp_path / "a") if kind == "one" else FileStore(tmp_path, layout=kind)
    put(store, b"old", "a")
    part = written(store, b"new", "a")
    with monkeypatch.context() as patch:
        failed = _failing(patch, call, number)
        with pytest.raises(StoreError, match="publishing") as caught:
            part.publish(digests_of(b"new"))
        assert len(failed) == 1
    assert caught.value.errno == number
    part.discard()
    store.close()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.rglob(".part-*")) == []


def test_a_close_that_fails_is_heard_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    part = written(store, b"x", "a")
    with monkeypatch.context() as patch:
        failed = _failing(patch, "close", errno.EIO)
        with pytest.raises(StoreError, match="publishing") as caught:
            part.publish({})
    os.close(failed[0][0])
    assert caught.value.errno == errno.EIO
    part.discard()
    assert not (tmp_path / "a").exists()
    store.close()


def _of_a_part(path: Any) -> bool:
    return ".part-" in os.fspath(path)


def test_a_part_that_could_not_be_removed_goes_when_the_store_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    part = written(store, b"x", "a")
    with monkeypatch.context() as patch:
        failed = _failing(patch, "unlink", errno.ESTALE, _of_a_part)
        with pytest.raises(StoreError, match="removing"):
            part.discard()
        assert len(failed) == 1
        store.close()  # which cannot remove it either: the marker stays
        assert len(failed) == 2
    assert sorted(path.name.partition("-")[0] for path in tmp_path.rglob("*") if path.is_file()) == [".part", "running"]
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_could_not_be_removed_to_the_end_is_swept_by_the_next_process(tmp_path: Path) -> None:
    left = """
store = FileStore(root)
part = written(store, b"x", "a")
real = os.unlink

def unlink(path):
    if ".part-" in path:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    real(path)

os.unlink = unlink
kind, told = tried(part.discard)
assert kind == "EIO", told
store.close()
print("as promised")
"""
    _run(left, tmp_path)
    assert len(list(tmp_path.glob(".part-*"))) == 1
    FileStore(tmp_path).ready()
    assert list(tmp_path.rglob("*-*")) == []


@pytest.mark.parametrize("call", ["flock", "fstat"])
@pytest.mark.parametrize("what", ["a part", "a target's part", "the marker"])
def test_a_file_that_was_made_and_cannot_be_taken_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, call: str
) -> None:
    store = OneFile(tmp_path / "a") if what == "a target's part" else FileStore(tmp_path)
    (tmp_path / ".geofetch").mkdir()
    if what == "a part":
        put(store, b"x", "there")
    before, there = descriptors(), sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        failed = _failing(patch, call, errno.ESTALE, of=fcntl if call == "flock" else os)
        for _ in range(3):
            with pytest.raises(StoreError):
                store.begin(attempt("a"), HEAD)
        assert len(failed) == 3
    assert descriptors() == before
    assert sorted(tmp_path.rglob("*")) == there
    put(store, b"x", "a")
    store.close()


@pytest.mark.parametrize("call", ["fstat", "fdopen"])
def test_a_file_that_cannot_be_looked_at_is_told_and_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = FileStore(tmp_path)
    put(store, b"x", "a")
    before = descriptors()
    with monkeypatch.context() as patch:
        _failing(patch, call, errno.ESTALE)
        with pytest.raises(StoreError, match=f"opening {tmp_path}/a") as caught:
            store.open("a")
    assert caught.value.errno == errno.ESTALE
    assert descriptors() == before
    store.close()


def test_two_processes_with_one_target_leave_one_whole_file(tmp_path: Path) -> None:
    script = (
        BEGIN
        + """
store = FileStore(root)
letter = sys.argv[2].encode()
for _ in range(50):
    written(store, letter * 100_000, "d/a", pieces=3).publish({})
    content = (root / "d/a").read_bytes()
    assert content in (b"1" * 100_000, b"2" * 100_000), content[:10]
store.close()
"""
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), letter], cwd=HERE, stderr=subprocess.PIPE)
        for letter in "12"
    ]
    assert [(one.communicate()[1], one.returncode) for one in both] == [(b"", 0)] * 2
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "a"]
