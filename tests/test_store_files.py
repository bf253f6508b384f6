"""Files on a disk: which name they get, what is never touched, what is there already."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch.digest import Digest
from geofetch.errors import SpecError, StoreError
from geofetch.events import Attempt, Kept
from geofetch.spec import Spec
from geofetch.store import FileStore, MemoryStore, OneFile, OneStream, StoreStage, TempStore, files, store_for
from geofetch.store.running import locked, token
from geofetch.testing.store import HEAD, PATH, URL, attempt, digests_of, put, written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "srv"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root)
    yield store
    store.close()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".part-*"))


# Names


def test_its_name_is_its_root_as_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore("a b%")
    assert store.name == f"file://{tmp_path}/a%20b%25"
    monkeypatch.chdir("/")
    assert put(store, b"x")[0] == tmp_path / "a b%" / PATH
    store.close()


def test_a_file_lies_where_its_spec_says_with_the_mode_that_umask_leaves(store: FileStore, root: Path) -> None:
    before = os.umask(0o027)
    try:
        location, kept = put(store, b"x", "a/b/c.rpm")
    finally:
        os.umask(before)
    assert location == root / "a/b/c.rpm"
    assert stat.S_IMODE(location.stat().st_mode) == 0o640
    seen = location.stat()
    assert kept == Kept(f"file://{root}", "a/b/c.rpm", 1, seen.st_mtime_ns, seen.st_ino)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("n" * 255, id="255-bytes"),
        pytest.param("\U0001f4e6" * 63, id="63-letters-of-4-bytes"),
        pytest.param("libfoo_1%3a2.deb", id="percent"),
        pytest.param("-rf", id="leading-dash"),
        pytest.param("$(id) ~ 'x\".", id="shell"),
        pytest.param(".bashrc", id="hidden"),
        pytest.param("‮gpj.exe", id="right-to-left"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("name.part", id="another-program's-part"),
    ],
)
def test_any_name_that_a_spec_may_have_is_stored_under_it(store: FileStore, root: Path, path: str) -> None:
    location, _ = put(store, b"x", path)
    assert location.read_bytes() == b"x"
    assert os.fsencode(location) == os.fsencode(root) + b"/" + path.encode()
    assert list(store.keys()) == [path]


def test_a_path_may_have_more_folders_than_python_has_frames(store: FileStore, root: Path) -> None:
    path = "/".join(["d"] * 1200)
    location, _ = put(store, b"x", path)
    assert location.read_bytes() == b"x"
    assert list(store.keys()) == [path]
    # What removes old folders of tests later may go down by recursion.
    subprocess.run(["rm", "-rf", str(root)], check=True)


def test_a_name_that_the_file_system_refuses_is_refused_before_any_byte(store: FileStore, tmp_path: Path) -> None:
    deep = FileStore(tmp_path / "/".join(["d" * 200] * 20))
    with pytest.raises(StoreError, match="shorter path") as caught:
        deep.begin(attempt("a/" * 100 + "a"), HEAD)
    assert caught.value.errno == errno.ENAMETOOLONG
    deep.close()


def test_a_name_that_makes_the_path_too_long_is_refused_before_any_byte(tmp_path: Path) -> None:
    above = "/".join(["d" * 200] * 25)[: 4050 - len(os.fsencode(tmp_path))].rstrip("/")
    store = FileStore(tmp_path / above)
    for name in ("n" * 60, "n" * 200):
        with pytest.raises(StoreError, match="shorter path") as caught:
            store.begin(attempt(name), HEAD)
        assert caught.value.errno == errno.ENAMETOOLONG
    put(store, b"x", "n")
    store.close()


def test_a_part_lies_beside_its_target_unseen_and_is_gone_afterwards(store: FileStore, root: Path) -> None:
    part = store.begin(attempt("a/b.rpm"), HEAD)
    part.write(memoryview(b"half"))
    (path,) = parts(root)
    assert path.parent == root / "a"
    assert not (root / "a/b.rpm").exists()
    part.discard()
    assert parts(root) == []


def test_a_planted_part_is_never_written(store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guessed = iter(["0", "0", "1"])
    monkeypatch.setattr("geofetch.store.filepart.token", lambda: next(guessed))
    first = store.begin(attempt("a"), HEAD)
    first.discard()
    (root / "victim").write_bytes(b"mine")
    Path(first.path).symlink_to("victim")
    part = written(store, b"bytes", "a")
    assert part.path == first.path[:-1] + "1"
    part.discard()
    assert (root / "victim").read_bytes() == b"mine"
    assert Path(first.path).is_symlink()


def test_a_part_that_a_sweep_takes_at_its_birth_is_begun_again(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, b"x", "first")
    taken: list[Path] = []

    def swept(fd: int) -> bool | None:
        if not taken:
            taken.extend(parts(root))
            taken[0].unlink()
        return locked(fd)

    monkeypatch.setattr("geofetch.store.running.locked", swept)
    assert put(store, b"y", "a")[0].read_bytes() == b"y"
    assert len(taken) == 1


@pytest.mark.parametrize("path", ["a.rpm", "a/b/c.rpm", "\U0001f4e6/é", ".hidden/-rf"])
@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_location_is_a_path_like_any_other(tmp_path: Path, layout: Any, path: str) -> None:
    store = FileStore(tmp_path / "srv", layout=layout)
    for content in (b"x", b"y"):
        location, _ = put(store, content, path)
        same = Path(f"{tmp_path}/srv/{path}")
        assert type(location) is type(same)
        assert (location, hash(location), str(location), location.parts) == (same, hash(same), str(same), same.parts)
        assert (location.parent, location.name, repr(location)) == (same.parent, same.name, repr(same))
        assert pickle.loads(pickle.dumps(location)) == copy.copy(location) == same
        assert location.read_bytes() == content
    found = store.have(Spec(URL, path=path, digests=[*digests_of(b"y").values()]), None)
    assert found is not None
    assert (str(found.location), found.location) == (str(same), same)
    store.close()


def test_a_token_is_given_once_also_after_a_fork() -> None:
    token()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, "".join(token() for _ in range(200)).encode())
        os._exit(0)
    mine = [token() for _ in range(200)]
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        theirs = re.findall("[0-9a-f]{16}", told.read())
    assert len({*mine, *theirs}) == 400


# What has the name already


def test_a_symbolic_link_is_replaced_and_its_target_never_written(store: FileStore, root: Path) -> None:
    root.mkdir()
    (root / "victim").write_bytes(b"mine")
    (root / "a").symlink_to("victim")
    location, _ = put(store, b"new", "a")
    assert not location.is_symlink()
    assert location.read_bytes() == b"new"
    assert (root / "victim").read_bytes() == b"mine"


def test_a_hard_link_is_replaced_and_the_other_name_keeps_its_bytes(store: FileStore, root: Path) -> None:
    root.mkdir()
    (root / "other").write_bytes(b"mine")
    os.link(root / "other", root / "a")
    put(store, b"new", "a")
    assert ((root / "other").read_bytes(), (root / "a").read_bytes()) == (b"mine", b"new")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "number"),
    [
        pytest.param(Path.mkdir, errno.EISDIR, id="folder"),
        pytest.param(os.mkfifo, errno.EEXIST, id="pipe"),
        pytest.param(_socket, errno.EEXIST, id="socket"),
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["before-the-part", "before-the-publish"])
@pytest.mark.parametrize("links", [None, "path", "digest"], ids=["one-file", "by-path", "by-digest"])
def test_what_is_no_file_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], None], number: int, early: bool, links: Any
) -> None:
    store = OneFile(tmp_path / "a") if links is None else FileStore(tmp_path, layout=links)
    if early:
        make(tmp_path / "a")
        with pytest.raises(StoreError, match="/a") as caught:
            store.begin(attempt("a"), HEAD)
    else:
        part = written(store, b"x", "a")
        make(tmp_path / "a")
        with pytest.raises(StoreError, match="/a") as caught:
            part.publish(digests_of(b"x"))
        part.discard()
    assert caught.value.errno == number
    assert not stat.S_ISREG((tmp_path / "a").lstat().st_mode)
    assert parts(tmp_path) == []
    store.close()


def test_a_folder_that_leads_out_of_the_root_is_refused_and_nothing_is_made_there(
    store: FileStore, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    root.mkdir()
    (root / "link").symlink_to("../outside")
    for ask in (
        lambda: store.begin(attempt("link/new/a"), HEAD),
        lambda: store.have(Spec(URL, path="link/a", size=1), None),
        lambda: store.open("link/a"),
        lambda: store.quarantine("link/a"),
    ):
        with pytest.raises(StoreError, match="leads out of the store"):
            ask()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_that_links_to_another_one_inside_is_followed(store: FileStore, root: Path) -> None:
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to("real")
    put(store, b"x", "link/a")
    assert (root / "real/a").read_bytes() == b"x"


def test_a_root_that_is_a_link_is_as_good_as_any(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = FileStore(tmp_path / "link")
    assert put(store, b"x", "d/a")[0].read_bytes() == b"x"
    store.close()


def test_a_file_where_a_folder_is_wanted_is_named(store: FileStore, root: Path) -> None:
    put(store, b"x", "a")
    with pytest.raises(StoreError, match=r"/a: .*is a file") as caught:
        store.begin(attempt("a/b"), HEAD)
    assert caught.value.errno == errno.ENOTDIR


def test_a_folder_that_vanished_is_made_again(store: FileStore, root: Path) -> None:
    location, _ = put(store, b"x", "d/e/a")
    location.unlink()
    location.parent.rmdir()
    (root / "d").rmdir()
    assert put(store, b"y", "d/e/a")[0].read_bytes() == b"y"


# Readiness


def test_a_root_is_not_made_before_there_is_a_part(store: FileStore, root: Path) -> None:
    store.ready()
    assert store.have(Spec(URL, size=1), None) is None
    assert not root.exists()


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for root in (tmp_path / "f", tmp_path / "f/deeper"):
        with pytest.raises(StoreError, match=str(root)) as caught:
            FileStore(root).ready()
        assert caught.value.errno == errno.ENOTDIR
        assert isinstance(caught.value.__cause__, NotADirectoryError)


@pytest.mark.parametrize("wrong", [{"layout": "tree"}, {"links": "soft"}])
def test_a_layout_that_does_not_exist_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        FileStore(tmp_path, **wrong)


# What someone else does to a part (fault E23)


def _in_place(path: Path) -> None:
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(b"!")
    # The file system's clock may not have moved on since our own write.
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before, before + 1))


def _replaced(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"theirs")


def _longer_in_secret(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.truncate(path, 2000)
    os.utime(path, ns=(before, before))


TOUCHED = [
    pytest.param(Path.unlink, "removed", id="removed"),
    pytest.param(lambda path: os.truncate(path, 2), "bytes were written", id="truncated"),
    pytest.param(lambda path: os.truncate(path, 2000), "bytes were written", id="made-longer"),
    pytest.param(_longer_in_secret, "bytes were written", id="made-longer-and-its-time-put-back"),
    pytest.param(_replaced, "another file has its name", id="replaced"),
    pytest.param(_in_place, "time of change", id="edited-in-place"),
    pytest.param(lambda path: os.link(path, path.with_name("theirs")), "second name", id="linked"),
]


@pytest.mark.parametrize("durable", [False, True], ids=["", "durable"])
@pytest.mark.parametrize(("touch", "how"), TOUCHED)
def test_a_part_that_someone_else_touched_is_never_published(
    root: Path, touch: Callable[[Path], None], how: str, durable: bool
) -> None:
    store = FileStore(root, durable=durable)
    part = written(store, b"ours, and whole", "a")
    touch(Path(part.path))
    with pytest.raises(StoreError, match=how):
        part.publish(digests_of(b"ours, and whole"))
    part.discard()
    assert not (root / "a").exists()
    assert parts(root) == []
    store.close()


@pytest.mark.parametrize(("touch", "how"), TOUCHED[1:4] + TOUCHED[5:6])
def test_a_part_that_someone_else_changed_takes_no_more_bytes(
    store: FileStore, touch: Callable[[Path], None], how: str
) -> None:
    part = written(store, b"ours", "a")
    touch(Path(part.path))
    with pytest.raises(StoreError, match="between two writes"):
        part.write(memoryview(b"more"))
    part.discard()


# What is there already


class _Records:
    """What records remember, and how often they were asked."""

    def __init__(self, kept: Kept | None = None, *digests: Mapping[str, Digest]) -> None:
        self.kept = kept
        self.digests = {name: digest for each in digests for name, digest in each.items()}
        self.asked: list[tuple[str, str]] = []

    def __call__(self, store: str, key: str) -> tuple[Kept, Mapping[str, Digest]] | None:
        self.asked.append((store, key))
        return None if self.kept is None else (self.kept, self.digests)


def _rot(path: Path) -> None:
    """Other bytes, and nothing that stat could tell."""
    seen = path.stat()
    path.write_bytes(bytes(seen.st_size))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_a_file_that_the_records_know_unchanged_is_not_read(store: FileStore) -> None:
    location, kept = put(store, b"known")
    _rot(location)
    records = _Records(kept, digests_of(b"known", "sha256", "md5"))
    spec = Spec(URL, path=PATH, digests=[*digests_of(b"known").values()])
    found = store.have(spec, records)
    assert found is not None
    assert (found.verified, found.kept, found.digests) == ("digest", kept, records.digests)
    assert records.asked == [(store.name, PATH)]
    assert store.have(spec, records, reread=True) is None


def test_a_file_that_only_the_records_prove_by_size_is_read_when_asked_to(store: FileStore) -> None:
    location, kept = put(store, b"known")
    records = _Records(kept, digests_of(b"known", "sha512"))
    spec = Spec(URL, path=PATH, size=5)
    found = store.have(spec, records)
    assert found is not None
    assert (found.verified, found.digests) == ("size", records.digests)
    assert store.have(spec, records, reread=True) == found
    _rot(location)
    assert store.have(spec, records) == found
    assert store.have(spec, records, reread=True) is None


def test_records_that_contradict_the_spec_are_believed_without_reading(store: FileStore) -> None:
    _, kept = put(store, b"known")
    records = _Records(kept, digests_of(b"something else"))
    assert store.have(Spec(URL, path=PATH, digests=[*digests_of(b"known").values()]), records) is None


@pytest.mark.parametrize("field", ["size", "mtime_ns", "inode"])
def test_a_file_that_changed_since_is_read(store: FileStore, field: str) -> None:
    location, kept = put(store, b"known")
    assert kept is not None
    _rot(location)
    then = Kept(**{name: getattr(kept, name) for name in kept.__slots__} | {field: getattr(kept, field) + 1})
    records = _Records(then, digests_of(b"known"))
    assert store.have(Spec(URL, path=PATH, digests=[*digests_of(b"known").values()]), records) is None
    zeros = Spec(URL, path=PATH, digests=[*digests_of(bytes(5)).values()])
    assert store.have(zeros, records) is not None


def test_an_algorithm_that_the_records_do_not_know_is_computed(store: FileStore) -> None:
    _, kept = put(store, b"known")
    records = _Records(kept, digests_of(b"known"))
    found = store.have(Spec(URL, path=PATH, digests=[*digests_of(b"known", "sha1").values()]), records)
    assert found is not None
    assert found.digests == digests_of(b"known", "sha256", "sha1")


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("other"), Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_never_adopted(store: FileStore, root: Path, make: Callable[[Path], None]) -> None:
    root.mkdir()
    (root / "other").write_bytes(b"x")
    make(root / "a")
    size = (root / "a").stat().st_size
    assert store.have(Spec(URL, path="a", size=size), None) is None
    assert store.stat("a") is None
    with pytest.raises(StoreError):
        store.open("a")
    assert list(store.keys()) == ["other"]


def test_the_hub_goes_on_while_a_large_file_is_hashed(store: FileStore) -> None:
    content = bytes(64 << 20)
    put(store, content)
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.001)
            turns += 1

    counting = gevent.spawn(count)
    wanted = digests_of(content)
    turns = 0
    assert store.have(Spec(URL, path=PATH, digests=[*wanted.values()]), None) is not None
    counting.kill()
    assert turns > 5


def test_keys_are_files_and_nothing_of_ours(store: FileStore, root: Path) -> None:
    put(store, b"x", "a")
    part = written(store, b"y", "b")
    store.quarantine("a")
    put(store, b"z", "c/d")
    (root / "link").symlink_to("c")
    (root / "\x01").write_bytes(b"no spec can be called so")
    assert list(store.keys()) == ["c/d"]
    part.discard()


def test_quarantine_keeps_everything_that_was_ever_put_there(store: FileStore, root: Path) -> None:
    aside = []
    for number in range(3):
        put(store, b"%d" % number, "a")
        aside.append(store.quarantine("a"))
    put(store, b"deeper", "a/b")  # where quarantine has a file already
    aside.append(store.quarantine("a/b"))
    assert aside[0] == root / ".geofetch/quarantine/a"
    assert [path.read_bytes() for path in aside] == [b"0", b"1", b"2", b"deeper"]
    assert aside[3].name == "b"


# A destination that is one file


def test_one_file_leaves_nothing_but_itself(tmp_path: Path) -> None:
    store = store_for(str(tmp_path / "new/a.rpm"))
    location, kept = put(store, b"x", "pool/other-name.rpm")
    store.close()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new/a.rpm"]
    assert location == tmp_path / "new/a.rpm"
    assert kept is not None
    assert (kept.store, kept.key) == (f"file://{tmp_path}/new", "a.rpm")


def test_one_file_is_had_again_and_known_to_a_store_of_its_folder(tmp_path: Path) -> None:
    put(OneFile(tmp_path / "a.rpm"), b"x")
    assert OneFile(tmp_path / "a.rpm").have(Spec(URL, path="pool/z", size=1), None) is not None
    assert list(OneFile(tmp_path / "a.rpm").keys()) == ["a.rpm"]
    assert FileStore(tmp_path).stat("a.rpm") is not None


@pytest.mark.parametrize("write", [lambda folder: f"{folder}/new/", lambda folder: folder], ids=["slash", "is-one"])
def test_into_a_folder_a_file_goes_under_its_last_name(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    store = store_for(write(tmp_path))
    assert isinstance(store, OneFile)
    location, _ = put(store, b"x", "pool/main/a.rpm")
    assert location.name == "a.rpm"
    assert location.parent in (tmp_path, tmp_path / "new")
    assert location.read_bytes() == b"x"
    assert list(store.keys()) == ["a.rpm"]
    store.close()
    assert parts(tmp_path) == []
    assert not (location.parent / ".geofetch").exists()


def test_a_destination_may_be_many_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory = MemoryStore()
    assert memory  # an empty store is a store
    assert isinstance(store_for(None), TempStore)
    assert store_for(memory) is memory
    assert put(store_for("a"), b"x")[0] == tmp_path / "a"
    assert put(store_for(Path("b")), b"x")[0] == tmp_path / "b"
    assert put(store_for(f"file://{tmp_path}/c%20d"), b"x")[0] == tmp_path / "c d"
    with (tmp_path / "open").open("wb") as file:
        assert isinstance(store_for(file), OneStream)


@pytest.mark.parametrize("to", ["", "a\0b", ".part-a", "gs://bucket/a", "file://host/a", 7, object()])
def test_what_is_no_destination_is_refused(to: Any) -> None:
    with pytest.raises(SpecError):
        store_for(to)


# As a stage


def test_a_stage_publishes_once_accepted_and_discards_only_before(store: FileStore, root: Path) -> None:
    stage = StoreStage(store)
    one = attempt("a")
    hooks = stage.bind(one)
    hooks["headers"](HEAD)
    hooks["chunk"](memoryview(b"bytes"))
    assert not (root / "a").exists()
    one.digests = digests_of(b"bytes")
    hooks["accepted"]()
    assert one.location == root / "a"
    hooks["failed"](StoreError("the record could not be written"))
    assert (root / "a").read_bytes() == b"bytes"

    other = attempt("b")
    hooks = stage.bind(other)
    hooks["failed"](StoreError("before the head"))
    hooks["headers"](HEAD)
    hooks["failed"](StoreError("after it"))
    assert (other.location, parts(root)) == (None, [])
    assert stage.have(Spec(URL, path="a", size=5)) is not None


class _Counting(MemoryStore):
    """A store that counts the discards of its parts, and whose location is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []

    def begin(self, attempt: Any, head: Any) -> Any:
        return self

    def write(self, view: memoryview) -> None:
        self.ended.append("written")

    def publish(self, digests: Any) -> tuple[None, None]:
        self.ended.append("published")
        return None, None

    def discard(self) -> None:
        self.ended.append("discarded")


def test_a_stage_never_discards_what_it_published_wherever_that_lies() -> None:
    store = _Counting()
    hooks = StoreStage(store).bind(attempt())
    hooks["headers"](HEAD)
    hooks["accepted"]()
    hooks["failed"](StoreError("the record could not be written"))
    assert store.ended == ["published"]


def test_a_stage_has_nothing_to_do_in_an_adoption() -> None:
    assert StoreStage(MemoryStore()).bind(Attempt(Spec(URL), None)) is None


@pytest.mark.parametrize("again", [False, True], ids=["once", "and-once-more"])
def test_what_takes_the_place_while_it_is_put_aside_goes_back(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    put(store, b"rotten", "a")
    seen = store.stat("a")
    moved = files._moved

    def overtaken(path: str, reserved: str) -> None:
        put(store, b"right", "a")
        moved(path, reserved)
        if again:
            put(store, b"newest", "a")

    monkeypatch.setattr(files, "_moved", overtaken)
    with pytest.raises(StoreError, match="it was replaced while it was to be put aside") as caught:
        store.quarantine("a", seen)
    assert caught.value.errno == errno.ESTALE
    assert (root / "a").read_bytes() == (b"newest" if again else b"right")
    assert [path.read_bytes() for path in root.glob(".geofetch/quarantine/*")] == ([b"right"] if again else [])
