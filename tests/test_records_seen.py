"""Files that a scrub finds as they are recorded: one UPDATE for many, and the tables say the same either way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from geofetch.events import Kept
from geofetch.records import Unit, reader
from geofetch.records import ledger as ledger_module
from geofetch.records.changes import Import, Mark
from geofetch.records.database import located
from geofetch.records.ledger import Ledger
from geofetch.spec import Digest

from .support.servers import Place
from .test_records import sha256
from .test_records_units import unit

COUNT = 40


@pytest.fixture
def ledger(database: Place) -> Iterator[Ledger]:
    opened = Ledger(located(database.url))
    yield opened
    opened.close()


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch, database: Place) -> Iterator[Ledger]:
    """A ledger that merges every mark."""
    opened, way = Ledger(located(database.another().url)), ledger_module.written_as_seen
    monkeypatch.setattr(
        ledger_module,
        "written_as_seen",
        lambda database, changes: database is not opened._database and way(database, changes),
    )
    yield opened
    opened.close()


def known(number: int) -> Unit:
    content = b"%08d" % number
    return unit(
        f"{number:03d}", mtime_ns=1, inode=2**63 + number, digests=(sha256(content),), trusted=frozenset({"sha256"})
    )


def filled(ledger: Ledger) -> list[Unit]:
    news = [Import(known(number)) for number in range(COUNT)]
    ledger.write(news, False)
    return units_of(ledger)


def units_of(ledger: Ledger) -> list[Unit]:
    ids, _ = ledger.answer([lambda database: reader.page(database, reader.Wanted(), 0, 1000)], False)[0]
    return list(ledger.answer([lambda database: reader.units(database, ids)], False)[0])


def place_of(one: Unit, **other: Any) -> Kept:
    return replace(one.kept, **other)


def test_what_is_as_recorded_is_written_at_one_go(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    units = filled(ledger)
    monkeypatch.setattr(ledger_module, "_written", lambda *told: pytest.fail("merged, though nothing was new"))
    marks = [Mark(one, "present", "proven by sha256", place_of(one), (), 50 + at) for at, one in enumerate(units)]
    assert ledger.write(marks, False) == [True] * COUNT
    assert ledger.write(marks, False) == [True] * COUNT, "a batch whose commit nobody heard of is written again"
    for now, was in zip(units_of(ledger), units, strict=True):
        at = 50 + COUNT - 1
        assert now == replace(was, scrubbed_at=at, proven_at=at, scrub_result="proven by sha256")


def mark(one: Unit) -> Mark:
    return Mark(one, "present", None, None, (), 50)


def test_one_that_was_replaced_meanwhile_is_not_written(ledger: Ledger) -> None:
    units = filled(ledger)
    ledger.write([Import(replace(known(3), size=9, digests=(sha256(b"other"),)))], False)
    assert ledger.write([mark(one) for one in units[:5]], False) == [True, True, True, False, True]
    assert [one.scrubbed_at for one in units_of(ledger)[:5]] == [50, 50, 50, None, 50]


def test_one_that_was_found_missing_meanwhile_is_there_again(ledger: Ledger) -> None:
    units = filled(ledger)
    ledger.write([Mark(units[3], "missing", "nothing is stored there", None, (), 40)], False)
    assert ledger.write([mark(one) for one in units[:5]], False) == [True] * 5
    assert {(one.state, one.scrubbed_at) for one in units_of(ledger)[:5]} == {("present", 50)}


def test_one_that_was_forgotten_meanwhile_is_not_written(ledger: Ledger) -> None:
    units = filled(ledger)
    nobody = replace(units[3], key={"name": "nobody"})
    assert ledger.write([mark(units[0]), mark(nobody), mark(units[1])], False) == [True, False, True]
    assert ledger.write([mark(nobody)], False) == [False]


def test_one_that_is_told_twice_says_what_was_told_last(ledger: Ledger) -> None:
    units = filled(ledger)
    twice = [mark(units[0]), Mark(units[0], "present", "later", None, (), 60)]
    assert ledger.write(twice, False) == [True, True]
    assert (units_of(ledger)[0].scrubbed_at, units_of(ledger)[0].scrub_result) == (60, "later")


@pytest.mark.parametrize("seed", range(3))
def test_either_way_says_the_same(ledger: Ledger, general: Ledger, seed: int) -> None:
    dice = random.Random(seed)
    twins = [filled(ledger), filled(general)]
    for round_ in range(30):
        some = dice.sample(range(COUNT), dice.choice((1, 2, 8)))
        chances = [dice.random() for _ in some]
        answers = [
            one.write([_mark(units[at], chance, 100 + round_) for at, chance in zip(some, chances, strict=True)], False)
            for one, units in zip((ledger, general), twins, strict=True)
        ]
        assert answers[0] == answers[1]
        if dice.random() < 0.7:  # else what was read a while ago is marked
            twins = [units_of(ledger), units_of(general)]
    assert units_of(ledger) == units_of(general)
    assert {one.state for one in units_of(ledger)} >= {"present", "missing"}


def _mark(one: Unit, chance: float, at: int) -> Mark:
    if chance < 0.55:
        return Mark(one, "present", "proven by sha256", place_of(one) if chance < 0.3 else None, (), at)
    if chance < 0.65:
        return Mark(one, "present", None, None, one.digests, at)
    if chance < 0.75:
        return Mark(one, "present", "touched", place_of(one, mtime_ns=at), (), at)
    if chance < 0.85:
        return Mark(one, "present", "more is known", None, (Digest.of("md5", f"{at:032x}"),), at)
    return Mark(one, "missing", "nothing is stored there", None, (), at)
