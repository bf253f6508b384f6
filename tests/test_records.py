"""The Recorder as a stage: what a stored file leaves behind, what a second one changes, what a failure notes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch.errors import Cancelled, NotFound, RecordError, Stalled, Unreachable
from geofetch.events import Attempt, Head, Kept
from geofetch.records import Recorder, Unit
from geofetch.spec import Digest, Profile, Source, Spec

from .support.servers import Place

STORE = "file:///srv/mirror"
TABLES = ("units", "digests", "sources", "repositories", "unit_repositories")


def sha256(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).digest())


def attempt(
    spec: Spec, content: bytes = b"the file", *, adopted: bool = False, mtime: int = 1, **changes: Any
) -> Attempt:
    """An attempt as it is when its file has been published: proven by the spec's digests, or by its size."""
    found = Attempt(spec, None if adopted else spec.source)
    found.size = len(content)
    found.digests = {"sha256": sha256(content)}
    found.verified = "digest" if spec.digests else "size"
    found.kept = Kept(STORE, spec.path, len(content), mtime, 7)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def store(recorder: Recorder, spec: Spec, content: bytes = b"the file", **told: Any) -> None:
    recorder.bind(attempt(spec, content, **told))["stored"]("anywhere")


def fail(recorder: Recorder, spec: Spec, error: BaseException, source: Source | None = None) -> None:
    failed = Attempt(spec, source or spec.source)
    recorder.bind(failed)["failed"](error)
    recorder.flush()


def only(recorder: Recorder) -> Unit:
    (unit,) = recorder.units()
    return unit


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of SQLite's."""
    return tmp_path / "deep" / "down" / "units.db"


@pytest.fixture
def filed(path: Path) -> Iterator[Recorder]:
    """Records in that file."""
    with Recorder(f"sqlite:///{path}") as opened:
        yield opened


def test_nothing_is_opened_before_the_first_use(path: Path) -> None:
    with Recorder(f"sqlite:///{path}"):
        pass
    assert not path.parent.exists()


def test_a_stored_file_is_a_unit_with_everything_that_was_told(recorder: Recorder) -> None:
    mirror = Source("https://b.example/a.rpm", priority=5, weight=3, profile="inside")
    spec = Spec(
        "https://a.example/a.rpm",
        sources=[mirror],
        path="x86/a.rpm",
        digests=sha256(b"the file"),
        profile=Profile(name="all", headers={"Authorization": "Basic c2VjcmV0"}),
        repository="main",
    )
    found = attempt(spec)
    found.digests["md5"] = Digest("md5", hashlib.md5(b"the file").digest())
    head = Head(200, {"ETag": '"1"', "Set-Cookie": "no", "Content-Type": "a/b"}, 8, True, "", "https://a.example/a.rpm")
    found.head = head
    recorder.bind(found)["stored"]("/srv/mirror/x86/a.rpm")
    unit = only(recorder)
    assert (unit.type, unit.key) == ("file", {"store": STORE, "path": "x86/a.rpm"})
    assert unit.kept == Kept(STORE, "x86/a.rpm", 8, 1, 7)
    assert (unit.path, unit.state, unit.verified) == ("x86/a.rpm", "present", "digest")
    assert unit.digests == (found.digests["md5"], sha256(b"the file"))
    assert unit.trusted == {"sha256"}
    assert unit.sources == (Source("https://a.example/a.rpm", profile="all"), mirror)
    assert unit.repositories == ("main",)
    assert unit.metadata == {"etag": '"1"', "content_type": "a/b"}
    assert unit.health[0].last_ok_at == unit.stored_at == unit.proven_at
    assert unit.health[1].last_ok_at is None
    assert (unit.scrubbed_at, unit.scrub_result) == (None, None)


def test_stored_returns_after_the_commit(recorder: Recorder, database: Place) -> None:
    store(recorder, Spec("http://a.example/a"))
    assert database.rows("SELECT path FROM units") == [("a",)]


def test_a_unit_with_a_name_of_its_own_is_found_whatever_its_path(recorder: Recorder) -> None:
    what = {"type": "rpm", "name": "bash", "version": 5}
    store(recorder, Spec("http://a.example/a", unit=what, path="old/bash.rpm"))
    store(recorder, Spec("http://a.example/a", unit=dict(reversed(what.items())), path="new/bash.rpm"))
    assert only(recorder).path == "new/bash.rpm"
    assert recorder.unit(what) == only(recorder)
    assert recorder.unit({"type": "deb", "name": "bash", "version": 5}) is None


@pytest.mark.parametrize("kept", [None, Kept("", "a", 8)], ids=["no-place", "no-store"])
def test_a_file_that_no_store_keeps_is_not_recorded(filed: Recorder, path: Path, kept: Kept | None) -> None:
    store(filed, Spec("http://a.example/a"), kept=kept)
    assert filed.commits == 0
    assert not path.exists()


def test_an_adopted_file_is_recorded_like_any_other(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", digests=sha256(b"the file")), adopted=True)
    unit = only(recorder)
    assert unit.state == "present"
    assert unit.health[0].last_ok_at is None


def test_an_adoption_that_tells_nothing_new_writes_nothing(filed: Recorder, path: Path) -> None:
    spec = Spec("http://a.example/a", digests=sha256(b"the file"), repository="main")
    store(filed, spec)
    before, log = filed.unit("a"), path.with_name(path.name + "-wal").stat()
    store(filed, spec, adopted=True)
    assert filed.unit("a") == before
    after = path.with_name(path.name + "-wal").stat()
    assert (after.st_size, after.st_mtime_ns) == (log.st_size, log.st_mtime_ns)


def test_the_same_sync_twice_makes_no_row_twice(recorder: Recorder, database: Place) -> None:
    specs = [
        Spec(f"http://a.example/{n}", sources=[f"http://b.example/{n}"], digests=sha256(b"%d" % n), repository="main")
        for n in range(120)
    ]
    for _ in range(2):
        tasks = [gevent.spawn(store, recorder, spec, b"%d" % n) for n, spec in enumerate(specs)]
        gevent.joinall(tasks, raise_error=True)
        assert [database.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES] == [120, 120, 240, 1, 120]


def test_two_specs_for_one_unit_in_one_batch_are_one_row(recorder: Recorder) -> None:
    specs = [Spec(f"http://{host}.example/a", path="a", repository=host) for host in ("a", "b", "c")]
    gevent.joinall([gevent.spawn(store, recorder, spec) for spec in specs], raise_error=True)
    unit = only(recorder)
    assert [source.url for source in unit.sources] == [spec.source.url for spec in specs]
    assert unit.repositories == ("a", "b", "c")


def test_sources_of_the_same_version_are_added_and_updated(recorder: Recorder) -> None:
    digest = sha256(b"the file")
    store(recorder, Spec(sources=["http://a.example/a", "http://b.example/a"], digests=digest))
    again = [Source("http://b.example/a", priority=9), "http://c.example/a"]
    store(recorder, Spec(sources=again, path="a", digests=digest))
    unit = only(recorder)
    assert [(one.url, one.priority) for one in unit.sources] == [
        ("http://a.example/a", 0),
        ("http://b.example/a", 9),
        ("http://c.example/a", 0),
    ]
    assert all(health.last_ok_at for health in unit.health[:2])


def test_a_new_version_brings_its_own_sources_and_digests(recorder: Recorder) -> None:
    store(recorder, Spec(sources=["http://a.example/a", "http://b.example/a"], digests=sha256(b"one")), b"one")
    old = only(recorder)
    recorder.mark(old, "present", result="fine").get()
    store(recorder, Spec("http://b.example/a", digests=sha256(b"two")), b"two", mtime=2)
    unit = only(recorder)
    assert [one.url for one in unit.sources] == ["http://b.example/a"]
    assert unit.digests == (sha256(b"two"),)
    assert (unit.scrubbed_at, unit.scrub_result) == (None, None)
    assert unit.id == old.id


def test_what_is_not_known_to_be_the_same_keeps_no_digest(recorder: Recorder) -> None:
    md5 = Digest("md5", hashlib.md5(b"one").digest())
    store(recorder, Spec("http://a.example/a", digests=md5), b"one", digests={})
    store(recorder, Spec("http://b.example/a"), b"two", mtime=2)
    unit = only(recorder)
    assert unit.digests == (sha256(b"two"),)
    assert [one.url for one in unit.sources] == ["http://a.example/a", "http://b.example/a"]


def test_a_digest_once_trusted_stays_trusted(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", digests=sha256(b"the file")))
    store(recorder, Spec("http://a.example/a"), mtime=2)
    unit = only(recorder)
    assert unit.trusted == {"sha256"}
    assert unit.verified == "digest"


def test_a_file_that_takes_the_place_of_another_units_makes_that_one_missing(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", path="a", unit={"type": "rpm", "name": "old"}), b"old")
    store(recorder, Spec("http://a.example/a", path="a", unit={"type": "rpm", "name": "new"}), b"new", mtime=2)
    old, new = recorder.unit({"type": "rpm", "name": "old"}), recorder.unit({"type": "rpm", "name": "new"})
    assert old is not None
    assert new is not None
    assert (old.state, old.scrub_result) == ("missing", "another unit's file took its place")
    assert new.state == "present"
    known = recorder.recall(STORE, "a")
    assert known is not None
    assert known[1] == {"sha256": sha256(b"new")}


def test_units_with_the_same_bytes_share_a_place_and_its_renewal(recorder: Recorder) -> None:
    for name in ("one", "two"):
        store(recorder, Spec("http://a.example/a", path=name), kept=Kept(STORE, "blob", 8, 1, 7))
    store(recorder, Spec("http://a.example/a", path="two"), kept=Kept(STORE, "blob", 8, 2, 9))
    assert [(unit.state, unit.mtime_ns, unit.inode) for unit in recorder.units()] == [("present", 2, 9)] * 2


def test_a_source_that_fails_is_noted_and_one_that_works_again_too(recorder: Recorder) -> None:
    spec = Spec(sources=["http://a.example/a", "http://b.example/a"], digests=sha256(b"the file"))
    store(recorder, spec)
    fail(recorder, spec, Stalled("too slow"), spec.sources[1])
    fail(recorder, spec, NotFound("gone"), spec.sources[1])
    works, fails = only(recorder).health
    assert (works.failures, works.last_error) == (0, None)
    assert (fails.failures, fails.last_error, fails.last_ok_at) == (2, "NotFound", None)
    assert fails.last_failed_at is not None
    store(recorder, spec, source=spec.sources[1])
    fails = only(recorder).health[1]
    assert (fails.failures, fails.last_error) == (0, None)
    assert fails.last_ok_at is not None


@pytest.mark.parametrize(
    "error",
    [Cancelled("enough"), Unreachable("no descriptors", errno=24), gevent.GreenletExit()],
    ids=["cancelled", "our-own-descriptors", "killed"],
)
def test_what_is_not_the_sources_fault_is_not_noted(recorder: Recorder, error: BaseException) -> None:
    spec = Spec("http://a.example/a")
    store(recorder, spec)
    fail(recorder, spec, error)
    assert only(recorder).health[0].failures == 0


def test_a_source_that_failed_before_its_file_was_known_is_noted_with_it(recorder: Recorder) -> None:
    spec = Spec(sources=["http://a.example/a", "http://b.example/a", "http://c.example/a"], path="a")
    for number in (0, 0, 1, 2):  # tried twice, once, and once in vain before it does well
        fail(recorder, spec, Stalled("slow"), spec.sources[number])
    recorder.flush()
    for _ in range(2):
        recorder.bind(attempt(spec, source=spec.sources[2]))["stored"]("anywhere")
        recorder.flush()
        assert [(health.failures, health.last_error) for health in only(recorder).health] == [
            (1, "Stalled"),
            (1, "Stalled"),
            (0, None),
        ]
    assert recorder._failures == {}


def test_of_how_many_failures_is_known_has_an_end(filed: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofetch.records.recorder.FAILED_MOST", 3)
    for number in range(9):
        spec = Spec(f"http://a.example/{number}")
        fail(filed, spec, Stalled("slow"), spec.sources[0])
    assert len(filed._failures) == 3


def test_a_failure_of_an_unknown_file_makes_no_unit(recorder: Recorder) -> None:
    fail(recorder, Spec("http://a.example/a"), NotFound("gone"))
    assert recorder.count() == 0


def test_recall_gives_the_file_as_it_was_and_only_while_it_is_present(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", digests=sha256(b"the file")))
    assert recorder.recall(STORE, "a") == (Kept(STORE, "a", 8, 1, 7), {"sha256": sha256(b"the file")})
    assert recorder.recall("file:///elsewhere", "a") is None
    assert recorder.recall(STORE, "b") is None
    recorder.mark(only(recorder), "corrupt").get()
    assert recorder.recall(STORE, "a") is None


def test_lookups_of_one_moment_are_one_select_a_table(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    specs = [Spec(f"http://a.example/{n}") for n in range(300)]
    gevent.joinall([gevent.spawn(store, recorder, spec) for spec in specs], raise_error=True)
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        found = [gevent.spawn(recorder.recall, STORE, str(n)) for n in range(310)]
        gevent.joinall(found, raise_error=True)
    assert [n for n, one in enumerate(found) if one.value is None] == list(range(300, 310))
    assert len([record for record in caplog.records if "SELECT" in record.getMessage()]) == 4


def test_a_large_inode_is_recorded_as_it_is(recorder: Recorder) -> None:
    for inode in (2**64 - 1, 2**63, 2**63 - 1, 0):
        store(recorder, Spec("http://a.example/a"), kept=Kept(STORE, "a", 8, 1, inode))
        assert only(recorder).inode == inode
        assert recorder.recall(STORE, "a") == (Kept(STORE, "a", 8, 1, inode), {"sha256": sha256(b"the file")})


def test_an_empty_file_is_a_file(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", size=0, digests=sha256(b"")), b"")
    unit = only(recorder)
    assert (unit.size, unit.digests) == (0, (sha256(b""),))


CANARY = "canary7f3a"


def test_no_secret_reaches_the_database(recorder: Recorder, database: Place) -> None:
    secret = Source(f"https://user:{CANARY}@a.example/a?X-Amz-Signature={CANARY}")
    told = Source(f"https://b.example/a?page={CANARY}", secret_query=True)
    profile = Profile(
        name="open",
        headers={"Authorization": f"Bearer {CANARY}"},
        auth=("user", CANARY),
        proxies=f"http://user:{CANARY}@proxy.example",
        key_password=CANARY,
    )
    spec = Spec(sources=[secret, told, "https://c.example/a?build=9"], profile=profile, meta={"token": CANARY})
    store(recorder, spec)
    fail(recorder, spec, Unreachable(f"no way to https://user:{CANARY}@a.example"))
    held = "".join(str(database.rows(f"SELECT * FROM {table}")) for table in TABLES)
    assert "a.example" in held
    assert CANARY not in held
    if database.kind == "sqlite":
        for file in Path(database.url.removeprefix("sqlite:///")).parent.iterdir():
            assert CANARY.encode() not in file.read_bytes()
    unit = only(recorder)
    assert [(one.url, one.profile, one.secret_query) for one in unit.sources] == [
        ("https://a.example/a", "open", True),
        ("https://b.example/a", "open", True),
        ("https://c.example/a?build=9", "open", False),
    ]
    assert unit.health[0].failures == 1
    assert CANARY not in repr(recorder)


def test_an_error_says_whose_record_it_was(recorder: Recorder) -> None:
    spec = Spec("http://a.example/\udcff", path="a")
    with pytest.raises(RecordError, match="surrogates") as caught:
        store(recorder, spec)
    assert caught.value.spec is spec
    assert caught.value.source is spec.source
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)


def test_a_closed_recorder_says_so_and_closes_again(path: Path) -> None:
    recorder = Recorder(f"sqlite:///{path}")
    store(recorder, Spec("http://a.example/a"))
    recorder.close()
    recorder.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["units.db"]
    with pytest.raises(RecordError, match="closed"):
        store(recorder, Spec("http://a.example/a"))
    recorder.bind(Attempt(Spec("http://a.example/a"), Source("http://a.example/a")))["failed"](Stalled("late"))


def test_records_in_memory_last_until_they_are_closed() -> None:
    with Recorder("sqlite:///:memory:") as recorder:
        store(recorder, Spec("http://a.example/a"))
        assert recorder.count() == 1
        with pytest.raises(RecordError):
            store(recorder, Spec("http://a.example/\udcff", path="b"))
        assert recorder.count() == 1
