"""Rows E25 and E26 of the fault matrix: bits that flip in the records, and on the wire.  (E24, in stored files, has its
tests beside verify and repair.)"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from geofetch import DigestMismatch, FileStore, Pool, Recorder, RecordError, Spec
from geofetch.errors import SourcesExhausted
from geofetch.records import Unit
from geofetch.upkeep import scrub
from tests.origin.content import made
from tests.support.apart import command
from tests.support.matrix import wanted
from tests.support.meddling import Meddler
from tests.support.mirrors import Mirror
from tests.support.servers import Place
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

SEED = int(os.environ.get("GEOFETCH_BITS_SEED") or random.SystemRandom().randrange(1 << 32))
FLIPS = 1000 if os.environ.get("GEOFETCH_TEST_FULL") else 100

BODIES = {f"pool/{number:02}.rpm": made(900 + number, f"{number}") for number in range(20)}


def stocked(folder: Path, url: str, layout: Any = "path") -> FileStore:
    """A store of all these files, recorded there; its sources are files."""
    store = FileStore(folder / "srv", layout=layout)
    specs = []
    for path, body in BODIES.items():
        source = folder / "src" / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(body)
        specs.append(Spec(source.as_uri(), path=path, digests=f"sha256:{hashlib.sha256(body).hexdigest()}"))
    with Recorder(url) as recorder, Pool(4, store=store, recorder=recorder, progress=False) as pool:
        assert all(outcome.ok for outcome in pool.map(specs))
    return store


class Records:
    """A database of SQLite's in a file, and the same with one bit another one."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, f"sqlite:///{path}"
        self._sound = path.read_bytes()
        with Recorder(self.url) as recorder:
            self.units = {unit.id: unit for unit in recorder.units()}

    def flip(self, at: int, bit: int) -> None:
        for end in ("", "-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        self.path.write_bytes(self._sound[:at] + bytes([self._sound[at] ^ 1 << bit]) + self._sound[at + 1 :])

    def __len__(self) -> int:
        return len(self._sound)

    def is_itself(self, unit: Unit) -> bool:
        """Whether this says what was recorded of a file, as far as that says which file, where, and how to prove it."""
        was = self.units.get(unit.id)
        told = [(one.type, one.key, one.path, one.store_key, one.size, one.digests) for one in (unit, was or unit)]
        return was is not None and told[0] == told[1]


@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_bit_that_flips_in_the_records_proves_no_wrong_unit_and_breaks_nothing_e25(
    tmp_path: Path, layout: str
) -> None:
    print(f"GEOFETCH_BITS_SEED={SEED}")
    store, dice = stocked(tmp_path, f"sqlite:///{tmp_path}/units.db", layout), random.Random(SEED)
    records, noticed = Records(tmp_path / "units.db"), 0
    for _ in range(FLIPS):
        where = dice.randrange(len(records)), dice.randrange(8)
        records.flip(*where)
        faults = told(records)
        noticed += bool(faults)
        try:
            with Recorder(records.url) as recorder:
                proven = [one.unit for one in scrub(recorder, store) if one.state == "present"]
        except RecordError:
            assert faults, where  # what ends a verify, the doctor sees
            continue
        assert faults or all(map(records.is_itself, proven)), where
    assert noticed  # an eighth of them, about: most bytes of a young database are empty
    store.close()


def told(records: Records) -> list[str]:
    """What is wrong with the database, by its own word."""
    try:
        with Recorder(records.url) as recorder:
            return recorder.faults()
    except RecordError as exc:
        return [str(exc)]


HARM = {
    "identity": ("UPDATE units SET type = 'filf' WHERE id = 3", "unit 3 is damaged: it is not found by its type"),
    "path": ("UPDATE units SET path = 'pool/03.rpn' WHERE id = 4", "unit 4 is damaged: its path is 'pool/03.rpn'"),
    "url": ("UPDATE sources SET url = '&' || url WHERE unit_id = 5", "unit 5 is damaged: bad URL"),
    "digest": (
        "UPDATE digests SET value = zeroblob(32) WHERE unit_id = 6",
        "unit 6 is damaged: it is filed by another",
    ),
    "orphan": ("DELETE FROM units WHERE id = 7", "belongs to a row of units that is not there"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_row_that_contradicts_itself_is_told_and_the_others_are_not_e25(tmp_path: Path, harm: str) -> None:
    place = Place("sqlite", f"sqlite:///{tmp_path}/units.db")
    stocked(tmp_path, place.url, "digest").close()
    with Recorder(place.url) as recorder:
        assert recorder.faults() == []
        place.rows(HARM[harm][0])
        found = recorder.faults()
    assert HARM[harm][1] in found[0]
    assert len(found) == (2 if harm == "orphan" else 1)  # a digest, and a source


def test_units_of_every_database_are_held_against_themselves_e25(database: Place, tmp_path: Path) -> None:
    stocked(tmp_path, database.url, "digest").close()
    with Recorder(database.url) as recorder:
        assert recorder.faults() == []
        (ident,) = database.rows("SELECT id FROM units WHERE path = 'pool/07.rpm'")[0]
        database.rows(f"UPDATE units SET type = 'filf' WHERE id = {ident}")
        assert recorder.faults() == [f"unit {ident} is damaged: it is not found by its type and its natural key"]


def test_the_doctor_reads_the_records_too_e25(tmp_path: Path) -> None:
    url, path = f"sqlite:///{tmp_path}/units.db", tmp_path / "units.db"
    stocked(tmp_path, url).close()
    done = command(["doctor", "--db", url])
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 units, sound" in done.stdout
    content = bytearray(path.read_bytes())
    content[5000:] = bytes(len(content) - 5000)
    path.write_bytes(content)
    for words in (["doctor", "--db", url], ["doctor", "--json", "--db", url]):
        done = command(words)
        assert (done.returncode, done.stderr) == (13, "")
        assert "the records" in done.stdout
        assert "all is well" not in done.stdout
    done = command(["doctor", "--db", f"{url}-absent"])
    assert done.returncode == 2
    assert "no records in" in done.stderr
    assert not Path(f"{path}-absent").exists()


# ------------------------------------------------------------------------------------------------------- on the wire


def test_a_bit_that_flips_on_the_wire_is_that_sources_fault_e26(mirror: Mirror, tmp_path: Path) -> None:
    body = made(60_000, "wire")
    honest = mirror.serves(body)
    store = FileStore(tmp_path / "srv")
    with Meddler(mirror.port, flip=41_234, times=99) as liar:
        lies = honest.url.replace(str(mirror.port), str(liar.port))
        sources = [{"url": lies, "priority": 0}, {"url": honest.url, "priority": 1}]
        with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
            with pooled(store=store, recorder=recorder) as pool:
                (outcome,) = pool.map([{**wanted("a", [honest], body), "sources": sources}])
                assert outcome.ok
                assert [type(one.error) for one in outcome.attempts] == [DigestMismatch, type(None)]
                assert outcome.source == honest
                unit = recorder.unit("a")
                assert unit is not None
                assert [health.failures for health in unit.health] == [1, 0]
                (alone,) = pool.map([{**wanted("b", [honest], body), "sources": sources[:1]}])
            assert isinstance(alone.error, DigestMismatch | SourcesExhausted)
            assert recorder.count() == 1
        assert (tmp_path / "srv/a").read_bytes() == body
        assert not (tmp_path / "srv/b").exists()
        assert liar.said() == "flipped"
    store.close()
