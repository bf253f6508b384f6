"""What a Pool wires together: a durable store has durable records, a name of a profile finds its profile."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

import geofetch
from geofetch.errors import Cancelled, RecordError, SpecError
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests


@pytest.mark.parametrize("durable", [True, False])
def test_records_are_as_durable_as_the_store(mirror: Mirror, tmp_path: Path, durable: bool) -> None:
    store = geofetch.FileStore(tmp_path / "srv", durable=durable)
    with geofetch.Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        with geofetch.Pool(2, store=store, recorder=recorder, progress=False) as pool:
            (outcome,) = pool.map([mirror.serves(b"x").url])
        assert outcome.raise_for_error().ok
        assert recorder.durable is durable
    store.close()


def test_a_recorder_given_as_url_is_the_pools_own(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "units.db"
    with geofetch.Pool(2, store=tmp_path / "srv", recorder=f"sqlite:///{path}", progress=False) as pool:
        pool.map([mirror.serves(b"x", name="a.rpm").url])[0].raise_for_error()
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*) from units").fetchone() == (1,)
    database.close()
    assert sorted(p.name for p in (tmp_path / "srv").iterdir()) == ["a.rpm"]


def test_what_a_pool_made_is_closed_whatever_its_records_say(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = geofetch.Pool(2, store=tmp_path / "srv", recorder=f"sqlite:///{tmp_path}/units.db", progress=False)
    pool.map([mirror.serves(b"x", name="a.rpm").url])[0].raise_for_error()
    ended = pool.recorder._lane.end

    def failing(last: Any) -> None:
        ended(last)
        raise RecordError("the last batch was refused")

    monkeypatch.setattr(pool.recorder._lane, "end", failing)
    assert sorted(p.name for p in (tmp_path / "srv").iterdir()) == [".geofetch", "a.rpm"]
    with pytest.raises(RecordError, match="the last batch"):
        pool.close()
    assert sorted(p.name for p in (tmp_path / "srv").iterdir()) == ["a.rpm"], "the store was closed all the same"
    pool.close()


def test_two_who_close_a_pool_close_it_once(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = geofetch.Pool(2, store=tmp_path / "srv", recorder=f"sqlite:///{tmp_path}/units.db", progress=False)
    pool.map([mirror.serves(b"x", name="a.rpm").url])[0].raise_for_error()
    slow, calls = pool.recorder._lane.flush, []

    def flush() -> None:
        calls.append("flushed")
        gevent.sleep(0.05)
        slow()

    monkeypatch.setattr(pool.recorder._lane, "flush", flush)
    gevent.joinall([gevent.spawn(pool.close) for _ in range(3)], timeout=10, raise_error=True)
    assert calls == ["flushed"]
    assert sorted(p.name for p in (tmp_path / "srv").iterdir()) == ["a.rpm"]


def test_a_pool_whose_block_is_killed_twice_ends_by_itself(mirror: Mirror, tmp_path: Path, spotless: Leftovers) -> None:
    """The first kill cancels its jobs, the second one strikes whoever waits for them."""
    held, mending, mended = mirror.serves(b"x", stall=0), Event(), Event()

    def slow(*told: Any) -> None:
        mending.set()
        mended.wait(10)

    def sync() -> None:
        with geofetch.Pool(
            2, store=tmp_path / "srv", recorder=f"sqlite:///{tmp_path}/units.db", hooks={"failed": slow}, progress=False
        ) as pool:
            job = pool.spawn(held.url)
            asking.set()
            job.wait()

    asking = Event()
    syncing = gevent.spawn(sync)
    assert asking.wait(10)
    until(lambda: held.requests, what="the file asked for")
    syncing.kill(block=False)
    assert mending.wait(10)
    syncing.kill(timeout=10)
    assert syncing.dead
    mended.set()
    until(lambda: not (tmp_path / "srv/.geofetch").exists(), what="the store closed")  # and spotless sees the records


class Enough(Exception):
    """What a caller's timeout raises."""


STRIKES = {"a kill": gevent.GreenletExit, "a timeout": gevent.Timeout, "a timeout with an exception of its own": Enough}


@pytest.mark.parametrize("kind", STRIKES.values(), ids=STRIKES)
def test_whoever_is_struck_while_a_pool_ends_goes_and_it_ends_by_itself(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, kind: type[BaseException]
) -> None:
    held, jobs, struck = mirror.serves(b"x", stall="head"), [], []

    def sync() -> None:
        try:
            with geofetch.Pool(
                2, store=tmp_path / "srv", recorder=f"sqlite:///{tmp_path}/units.db", progress=False
            ) as pool:
                jobs.append(pool.spawn(held.url))
        except BaseException as exc:
            struck.append(exc)

    syncing = gevent.spawn(sync)
    held.arrived()
    syncing.kill(kind(), timeout=10)
    assert [type(exc) for exc in struck] == [kind]
    assert isinstance(jobs[0].get(timeout=10).error, Cancelled)
    until(lambda: not (tmp_path / "srv/.geofetch").exists(), what="the store closed")  # and spotless sees the records


@pytest.mark.parametrize("kind", STRIKES.values(), ids=STRIKES)
def test_whoever_is_struck_while_a_pools_records_are_closed_goes_at_once(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """What strikes is no error of the records, which are closed to their end by somebody else, and so is the store."""
    struck, writing, written = [], Event(), Event()

    def sync() -> None:
        try:
            with geofetch.Pool(
                2, store=tmp_path / "srv", recorder=f"sqlite:///{tmp_path}/units.db", progress=False
            ) as pool:
                pool.map([mirror.serves(b"x", name="a.rpm").url])[0].raise_for_error()
                flush = pool.recorder._lane.flush
                monkeypatch.setattr(pool.recorder._lane, "flush", lambda: (writing.set(), written.wait(10), flush()))
        except BaseException as exc:
            struck.append(exc)

    syncing = gevent.spawn(sync)
    assert writing.wait(10)
    syncing.kill(kind(), timeout=10)
    assert [type(exc) for exc in struck] == [kind]
    assert sorted(p.name for p in (tmp_path / "srv").iterdir()) == [".geofetch", "a.rpm"]
    written.set()
    until(lambda: not (tmp_path / "srv/.geofetch").exists(), what="the store closed")


def test_a_hook_that_leaves_a_block_of_its_own_pool_ends_nothing(mirror: Mirror) -> None:
    """It cannot wait for itself, and that is its error alone."""
    refused: list[SpecError] = []

    def leaves(*told: Any) -> None:
        with pytest.raises(SpecError, match="wait for itself") as caught, pool:
            pass
        refused.append(caught.value)

    with geofetch.Pool(2, store=geofetch.MemoryStore(), hooks={"stored": leaves}, progress=False) as pool:
        outcomes = pool.map([mirror.serves(b"x", name=name).url for name in "abc"])
    assert [outcome.ok for outcome in outcomes] == [True] * 3
    assert len(refused) == 3


def test_a_profile_is_found_by_its_name_and_an_unknown_one_is_said(mirror: Mirror) -> None:
    handle = mirror.serves(b"x")
    profiles = {"inside": geofetch.Profile("inside", headers={"X-Who": "me"})}
    store = geofetch.MemoryStore()
    with geofetch.Pool(2, store=store, progress=False, profiles=profiles) as pool:
        good, bad = pool.map([geofetch.Spec(handle.url, profile=name) for name in ("inside", "outside")])
    assert store[good.raise_for_error().location] == b"x"
    assert handle.request.header("X-Who") == "me"
    assert isinstance(bad.error, SpecError)
    assert "no profile is called 'outside'" in str(bad.error)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "size is a whole number from 1"),
        ({"retries": -1}, "retries is a whole number from 0"),
        ({"deadline": 0}, "deadline is a number of seconds above 0"),
        ({"timeout": -3}, "timeout is a number of seconds above 0"),
        ({"on_error": "ignore"}, "on_error is"),
        ({"per_host": 0}, "per_host is a whole number from 1"),
        ({"session": object()}, "session is a geofetch.Session"),
        ({"stages": [object()]}, "is no stage"),
        ({"hooks": {"done": print}}, "no fact is called 'done'"),
        ({"hooks": {"stored": 5}}, "cannot be called"),
        ({"stages": 5}, "stages is a list"),
        ({"profiles": {"site": 5}}, "the profile 'site' is no geofetch.Profile"),
        ({"profiles": ["site"]}, "profiles is a mapping"),
        ({"low_speed": 0}, "low_speed is bytes a second"),
        ({"low_speed": (float("nan"), 1)}, "low_speed is bytes a second"),
        ({"low_speed": (1000, -1)}, "low_speed is a number of seconds"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        geofetch.Pool(**{"size": 1, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("specs", [None, 5, "http://a.example/b", {"source": "http://a.example/b"}], ids=str)
def test_what_is_no_iterable_of_specs_is_refused_before_anything_is_fetched(specs: Any) -> None:
    with geofetch.Pool(1) as pool:
        for many in (pool.map, pool.imap, pool.imap_unordered):
            with pytest.raises(SpecError, match="specs is an iterable of specs"):
                list(many(specs))


def test_fetch_names_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match=r"fetch\(\) knows no headers"):
        geofetch.fetch("http://a.example/b", headers={"A": "b"})


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        pytest.param({"digest": "x"}, "knows no digest; did you mean digests=?", id="digest"),
        pytest.param({"store": "x"}, "knows no store; did you mean to=?", id="store"),
        pytest.param({"timeouts": 1}, "knows no timeouts; did you mean timeout=?", id="timeouts"),
        pytest.param({"hook": {}, "digest": "x"}, "no digest, hook; did you mean digests=, hooks=?", id="two"),
        *(
            pytest.param(
                {name: "x"},
                f"knows no {name}; headers, auth, cert, verify and proxies are a Profile's: profile=",
                id=name,
            )
            for name in ("headers", "auth", "cert", "verify", "proxies")
        ),
        pytest.param({"cookies": {}}, "knows no cookies; cookies are a Session's: session=", id="cookies"),
        pytest.param({"sha256": "x"}, 'knows no sha256; digests="sha256:…" says it', id="sha256"),
        pytest.param({"sha3_512": "x"}, 'knows no sha3_512; digests="sha3_512:…" says it', id="sha3"),
        pytest.param({"checksum": "x"}, 'knows no checksum; digests="sha256:…" says it', id="checksum"),
        pytest.param(
            {"auth": "x", "headers": {}, "md5": "x"},
            "knows no auth, headers, md5; headers, auth, cert, verify and proxies are a Profile's: profile=;"
            ' digests="md5:…" says it',
            id="several",
        ),
        pytest.param(
            {"digest": "x", "sha1": "x"},
            'knows no digest, sha1; did you mean digests=?; digests="sha1:…" says it',
            id="near-and-known",
        ),
        pytest.param(
            {"colour": "red"},
            "knows no colour; there are check, deadline, decode, digests, hooks, low_speed, offload, on_error,"
            " per_host, profile, profiles, progress, recorder, repository, retries, session, size, sources, stages,"
            " timeout, to, unit",
            id="none-near",
        ),
    ],
)
def test_fetch_names_what_was_meant(wrong: dict[str, Any], meant: str) -> None:
    with pytest.raises(TypeError, match=re.escape(meant) + "$"):
        geofetch.fetch("http://a.example/b", **wrong)


def test_the_tally_is_at_hand(mirror: Mirror) -> None:
    with geofetch.Pool(2, store=geofetch.MemoryStore(), progress=lambda tally: None) as pool:
        assert pool.tally is None
        pool.map([mirror.serves(b"abc").url, mirror.serves(status=404, name="gone").url])
    tally = pool.tally
    assert tally is not None
    assert (tally.states["stored"], tally.states["failed"]) == (1, 1)
