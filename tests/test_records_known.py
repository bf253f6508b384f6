"""A file that is found as it was: the records are asked once, and told only what they do not say yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofetch import FileStore, Pool
from geofetch.events import Kept
from geofetch.records import Recorder
from geofetch.records import recorder as recorder_module
from geofetch.records.book import Book
from geofetch.records.known import WHOLE, says_all
from geofetch.records.put import Put
from geofetch.spec import Digest, Profile, Source, Spec

from .support.servers import Place
from .test_records import STORE, only, sha256, store

CONTENT = b"the file"
MD5 = Digest.of("md5", "0" * 32)


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


def spec(**told: Any) -> Spec:
    source = told.pop("source", "http://a.example/f")
    return Spec(source, **{"path": "f", "digests": f"sha256:{sha256(CONTENT).hex}", "repository": "main", **told})


def adopt(recorder: Recorder, wanted: Spec, *, recalled: bool = True, **told: Any) -> int:
    """Adopt it as a pool does; how many transactions that took."""
    before = recorder.commits
    if recalled:
        assert recorder.recall(STORE, wanted.path) is not None
    store(recorder, wanted, CONTENT, adopted=True, **told)
    return recorder.commits - before


def test_what_is_known_already_is_not_written_again(recorder: Recorder) -> None:
    store(recorder, spec())
    known = only(recorder)
    assert adopt(recorder, spec()) == 0
    assert only(recorder) == known


@pytest.mark.parametrize(
    ("told", "news"),
    [
        ({"source": Source("http://b.example/f")}, "a source"),
        ({"source": Source("http://a.example/f", priority=5)}, "a priority"),
        ({"source": Source("http://a.example/f", profile=Profile(name="me"))}, "a profile"),
        ({"profile": Profile(name="me")}, "a profile for all sources"),
        ({"source": Source("http://a.example/f", expires_at=4e9)}, "an expiry"),
        ({"repository": "other"}, "a repository"),
        ({"unit": {"type": "rpm", "name": "f"}}, "a natural key"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_is_new_is_told(recorder: Recorder, told: dict[str, Any], news: str) -> None:
    store(recorder, spec())
    assert adopt(recorder, spec(**told)) == 1, news
    assert adopt(recorder, spec(**told)) == 0, "the second time it is known"


def test_a_digest_that_was_only_observed_becomes_a_trusted_one(recorder: Recorder) -> None:
    store(recorder, spec(digests=None, size=len(CONTENT)))
    assert (only(recorder).trusted, only(recorder).verified) == (frozenset(), "size")
    assert adopt(recorder, spec()) == 1
    assert (only(recorder).trusted, only(recorder).verified) == ({"sha256"}, "digest")
    assert adopt(recorder, spec(digests=None, size=len(CONTENT))) == 0, "what is proven by a digest stays so"


def test_a_file_that_was_touched_is_told(recorder: Recorder) -> None:
    store(recorder, spec())
    assert adopt(recorder, spec(), kept=Kept(STORE, "f", len(CONTENT), 2, 7)) == 1
    assert only(recorder).mtime_ns == 2


def test_work_that_was_owed_is_cleared(recorder: Recorder) -> None:
    store(recorder, spec())
    recorder.want(spec(), STORE, policy="immediate", pending=True).get()
    known = only(recorder)
    recorder.put_unit(replace(known, pending="fetch", tries=2)).get()
    assert adopt(recorder, spec()) == 1
    assert (only(recorder).pending, only(recorder).tries) == (None, 0)


def test_a_unit_that_is_in_no_repository_any_more_comes_back(recorder: Recorder) -> None:
    store(recorder, spec())
    listing = recorder.listing("main", STORE)
    list(listing([Spec("http://a.example/other", path="other")]))
    assert listing.take_off() == 1
    assert only(recorder).unlisted_at is not None
    assert adopt(recorder, spec()) == 1
    assert (only(recorder).unlisted_at, only(recorder).repositories) == (None, ("main",))


def test_without_a_look_just_before_it_is_told(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    store(recorder, spec())
    assert adopt(recorder, spec(), recalled=False) == 1
    monkeypatch.setattr(recorder_module, "FRESH_S", -1.0)
    assert adopt(recorder, spec()) == 1


def test_a_look_counts_once_and_not_after_another_word_on_it(recorder: Recorder) -> None:
    store(recorder, spec())
    known = only(recorder)
    assert recorder.recall(STORE, "f") is not None
    recorder.mark(known, "corrupt", result="a bit is wrong").get()
    assert adopt(recorder, spec(), recalled=False) == 1
    assert only(recorder).state == "present"
    assert adopt(recorder, spec()) == 0
    assert adopt(recorder, spec(), recalled=False) == 1


def test_many_units_in_one_place_are_each_told_right(recorder: Recorder) -> None:
    specs = [spec(path=f"by-name/{n}") for n in range(WHOLE + 3)]
    place = Kept(STORE, "by-digest", len(CONTENT), 1, 7)
    for one in specs:
        store(recorder, one, kept=place)
    for one in specs + specs:
        assert recorder.recall(STORE, "by-digest") is not None
        store(recorder, one, adopted=True, kept=place)
    assert recorder.count(repository="main") == len(specs)
    assert {unit.state for unit in recorder.units()} == {"present"}


def test_a_plugin_hears_of_every_file(tmp_path: Path) -> None:
    from peewee import Model

    class Heard:
        models: tuple[type[Model], ...] = ()
        count = 0

        def record(self, database: Any, recorded: Any) -> None:
            self.count += len(recorded)

    heard = Heard()
    with Recorder(f"sqlite:///{tmp_path}/units.db", plugins=[heard]) as recorder:
        store(recorder, spec())
        assert adopt(recorder, spec()) == 1
    assert heard.count == 2


def test_a_second_sync_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    specs = []
    for n in range(40):
        content = b"%d" % n
        (root / f"{n}").write_bytes(content)
        specs.append(
            Spec(f"http://127.0.0.1:9/{n}", path=f"{n}", digests=f"sha256:{sha256(content).hex}", repository="r")
        )

    def run() -> tuple[int, set[str]]:
        url = f"sqlite:///{tmp_path}/units.db"
        with Recorder(url) as recorder, Pool(8, store=FileStore(root), recorder=recorder) as pool:
            states = {outcome.state for outcome in pool.map(specs)}
            assert recorder.count(repository="r", state="present") == 40
            return recorder.commits, states

    first, states = run()
    assert (first > 0, states) == (True, {"adopted"})
    assert run() == (0, {"adopted"})


# --------------------------------------------------------------------------------------- the rule, held against a merge

URLS = st.sampled_from(["http://a.example/f", "http://b.example/f", "http://b.example/f?token=x"])
SOURCES = st.lists(
    st.builds(Source, URLS, st.integers(0, 1), st.just(1), st.sampled_from([None, "p"]), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda one: (one.url, one.profile),
)
DIGESTS = st.sampled_from([None, sha256(CONTENT), sha256(b"another"), (sha256(CONTENT), MD5)])
KEYS = st.sampled_from([None, {"type": "rpm", "name": "f"}])
SPECS = st.builds(
    Spec,
    sources=SOURCES,
    path=st.sampled_from(["f", "g"]),
    digests=DIGESTS,
    unit=KEYS,
    repository=st.sampled_from([None, "main", "other"]),
    profile=st.sampled_from([None, "q"]),
)
KEPT = st.builds(Kept, st.just("s"), st.just("k"), st.just(8), st.sampled_from([None, 1]), st.just(7))
OBSERVED = st.sampled_from([{}, {"sha256": sha256(CONTENT)}, {"md5": MD5}])
PROOF = st.sampled_from(["digest", "size", "framing", "nothing"])


def told(wanted: Spec, kept: Kept, digests: dict[str, Digest], verified: Any, at: int, source: Source | None) -> Put:
    found = Put(wanted, kept, digests, verified, source, None if source is None else {"ETag": '"1"'}, at)
    found.prepare()
    return found


@settings(max_examples=500)
@given(SPECS, KEPT, OBSERVED, PROOF, SPECS, KEPT, OBSERVED, PROOF)
def test_what_is_said_to_say_all_would_not_change(
    wanted: Spec, kept: Kept, digests: Any, verified: Any, again: Spec, kept2: Kept, digests2: Any, verified2: Any
) -> None:
    for second, place in ((again, kept2), (wanted, kept)):
        book = Book()
        told(wanted, kept, digests, verified, 1, wanted.source).apply(book)
        before = dict(book.rows)
        if says_all(before.values(), second, place, digests2, verified2):
            told(second, place, digests2, verified2, 2, None).apply(book)
            assert book.rows == before


def test_the_rule_says_yes_at_all() -> None:
    wanted, kept = spec(), Kept("s", "k", 8, 1, 7)
    book = Book()
    told(wanted, kept, {"sha256": sha256(CONTENT)}, "digest", 1, wanted.source).apply(book)
    assert says_all(book.rows.values(), wanted, kept, {"sha256": sha256(CONTENT)}, "digest")
    assert not says_all(book.rows.values(), wanted, Kept("s", "k", 8, None, None), {}, "digest")
    assert not says_all(book.rows.values(), spec(digests=None), kept, {"sha256": sha256(b"another")}, "digest")
