"""Row E17, and the races of a gc: killed at each of its steps, and beside a process that stores the very files."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from geofetch import Pool, Recorder, Spec, upkeep
from geofetch.errors import StoreError
from tests.support.apart import environment
from tests.support.collecting import POINTS, store_of
from tests.support.objects import BUCKET, ObjectServer
from tests.support.process import ROOT
from tests.support.servers import Place
from tests.support.waiting import until

#: Before each step and after it; of removals the first and one in the middle.
STRIKES = [
    (point, number, after)
    for point in POINTS
    for number in ((1, 3) if point == "remove" else (1,))
    for after in (False, True)
]


class Yard:
    """A store by digest and its records, and a process that collects in it."""

    def __init__(self, name: str, folder: Path, url: str, place: str, endpoint: str | None) -> None:
        self.name = name
        self.sources, self.url = folder / "sources", url
        self.sources.mkdir()
        self._told = {"url": url, "place": place, "endpoint": endpoint}
        self.store = store_of(place, endpoint)
        self.recorder = Recorder(url)
        self.dice = random.Random(17)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.collecting"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**self._told, "strike": ("", 0, False), **order}) + "\n")
        self._process.stdin.flush()

    def ended(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def bodies(self, count: int) -> list[bytes]:
        return [self.dice.randbytes(1000 + at) for at in range(count)]

    def sync(self, listed: dict[str, bytes]) -> list[Any]:
        """These files, and nothing else, in the repository."""
        specs = []
        for name, body in listed.items():
            digest = hashlib.sha256(body).hexdigest()
            (self.sources / digest).write_bytes(body)
            source = f"file://{self.sources / digest}"
            specs.append(Spec(source, path=name, digests=f"sha256:{digest}", repository="main"))
        listing = self.recorder.listing("main", self.store.name)
        with Pool(4, store=self.store, recorder=self.recorder, progress=False) as pool:
            outcomes = pool.map(listing(specs))
        listing.take_off()
        return outcomes

    def assert_true(self) -> None:
        """No record says that a file is there which is not."""
        found = upkeep.verify(self.recorder, self.store, state="present")
        assert found.ok, found.as_dict()

    def assert_holds(self, listed: dict[str, bytes], besides: Collection[str] = ()) -> None:
        """These files are stored and recorded, and no others; ``besides`` are those that may be stored alone."""
        assert {unit.path: unit.state for unit in self.recorder.units()} == dict.fromkeys(listed, "present")
        keys = {hashlib.sha256(body).hexdigest() for body in listed.values()}
        assert {key.rpartition("/")[2] for key in list(self.store.keys())} - set(besides) == keys - set(besides)
        self.assert_true()

    def end(self) -> None:
        self._process.communicate(timeout=10)
        assert self._process.returncode == 0
        self.recorder.close()
        self.store.close()


@pytest.fixture(params=["files-sqlite", "files-postgresql", "objects-sqlite", "objects-postgresql"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    stored, recorded = request.param.split("-")
    place: Place | None = None
    if recorded == "postgresql":
        place = request.getfixturevalue("postgresql").place()
    server: ObjectServer | None = request.getfixturevalue("object_server") if stored == "objects" else None
    where = f"s3://{BUCKET}/{tmp_path.name}" if server is not None else str(tmp_path / "srv")
    url = f"sqlite:///{tmp_path}/units.db" if place is None else place.url
    made = Yard(request.param, tmp_path, url, where, None if server is None else server.endpoint)
    yield made
    made.end()
    if place is not None:
        place.drop()


@pytest.mark.timeout(600)
def test_a_gc_that_is_killed_at_any_step_loses_nothing_and_the_next_one_goes_on(yard: Yard) -> None:
    kept = dict(zip(("a", "b"), yard.bodies(2), strict=True))
    # Of steps that are the database's alone one pair with a bucket tells enough.
    strikes = STRIKES if yard.name != "objects-sqlite" else [one for one in STRIKES if one[0] == "remove"]
    for number, strike in enumerate(strikes):
        new = yard.bodies(4)
        over = {f"{number}/{at}": body for at, body in enumerate([*new, new[0], kept["a"]])}
        assert all(outcome.ok for outcome in yard.sync({**kept, **over}))
        yard.sync(kept)
        yard.begin(strike=strike)
        assert yard.ended()["killed"], strike
        yard.assert_true()
        assert {unit.path for unit in yard.recorder.units(repository="main")} == set(kept), strike
        yard.begin()
        done = yard.ended()
        assert (done["ok"], done["missing"]) == (True, 0), strike
        yard.assert_holds(kept)


@pytest.mark.timeout(600)
def test_what_a_killed_gc_took_is_stored_again_at_once_or_by_the_next_sync(yard: Yard) -> None:
    """The next sync lists the very files that a dead gc was about to remove, or had removed."""
    for strike in (("take", 1, True), ("remove", 2, True)):
        listed = dict(zip("abcd", yard.bodies(4), strict=True))
        yard.sync(listed)
        yard.sync({"d": listed["d"]})
        yard.begin(strike=strike)
        assert yard.ended()["killed"]
        failed = [outcome for outcome in yard.sync(listed) if not outcome.ok]
        assert all("removed by a gc" in str(outcome.error) for outcome in failed)
        yard.assert_true()
        yard.begin()
        assert yard.ended()["ok"]
        assert all(outcome.ok for outcome in yard.sync(listed))
        yard.assert_holds(listed)


@pytest.mark.timeout(600)
def test_a_gc_beside_a_process_that_stores_the_very_files_leaves_no_record_without_its_file(
    yard: Yard, tmp_path: Path
) -> None:
    rounds = 20 if yard.store.name.startswith("s3") else 40
    begun, stop = tmp_path / "begun", tmp_path / "stop"
    bodies = yard.bodies(6)
    yard.sync({"first": bodies[0]})
    yard.begin(begun=str(begun), until=str(stop))
    until(begun.exists, 60, "the first gc")
    refused, failed = 0, set()
    try:
        for number in range(rounds):
            some = yard.dice.sample(bodies, 4)
            for outcome in yard.sync({f"{number % 3}/{at}": body for at, body in enumerate(some)}):
                # What it was about to link to may be gone just then: that is told, too, and nothing is recorded.
                gone = isinstance(outcome.error, StoreError) and outcome.error.errno == errno.ENOENT
                assert outcome.ok or gone or "removed by a gc" in str(outcome.error), outcome.error
                refused += len(outcome.attempts) > 1 or not outcome.ok
                if not outcome.ok:
                    failed.add(outcome.spec.digests[0].hex)
    finally:
        stop.touch()
        done = yard.ended()
    print(f"{yard.store.name}: {refused} refused, {done}")
    assert done["removed"] > rounds / 5
    yard.assert_true()
    last = {"a": bodies[1], "b": bodies[2]}
    assert all(outcome.ok for outcome in yard.sync(last))
    yard.begin()
    assert yard.ended()["ok"]
    yard.assert_holds(last, besides=failed)
