"""Units are put into repositories, and taken off them, without anything else of them changing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from geofetch.errors import SpecError
from geofetch.records import Recorder, membership
from geofetch.spec import Spec

from .support.mirrors import Mirror
from .support.servers import Place
from .test_cli import Done, run
from .test_records import STORE, store


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


def spec(name: str, repository: str | None = "testing") -> Spec:
    return Spec(f"http://a.example/{name}", path=name, repository=repository)


def held(recorder: Recorder, repository: str) -> list[str]:
    return [unit.path for unit in recorder.units(repository=repository)]


def test_a_want_without_a_policy_leaves_that_of_a_known_unit(recorder: Recorder) -> None:
    store(recorder, spec("a"))
    (unit,) = recorder.units()
    assert recorder.want(replace(unit.spec(), repository="b"), STORE).get() == "present"
    (after,) = recorder.units()
    assert (after.policy, after.repositories) == ("immediate", ("b", "testing"))
    recorder.want(spec("a"), STORE, policy="on_demand").get()
    recorder.want(spec("a"), STORE).get()
    assert [one.policy for one in recorder.units()] == ["on_demand"]
    recorder.want(spec("new"), STORE).get()
    new = recorder.unit("new")
    assert new is not None
    assert new.policy == "immediate"


def test_units_are_put_into_a_repository_and_nothing_else_changes(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "AT_ONCE", 3)
    for number in range(8):
        store(recorder, spec(f"{number}"))
    recorder.want(spec("later"), STORE, policy="streamed").get()
    before = list(recorder.units())
    commits = recorder.commits
    assert recorder.associate(recorder.units(repository="testing"), "stable") == 9
    assert recorder.commits - commits == 3
    assert list(recorder.units()) == [replace(unit, repositories=("stable", "testing")) for unit in before]
    assert recorder.associate(before, "stable") == 0
    assert recorder.dissociate(before[:2], "testing") == 2
    assert recorder.dissociate(before[:2], "testing") == 0
    assert [unit.unlisted_at for unit in recorder.units()] == [None] * 9
    assert held(recorder, "testing") == [unit.path for unit in before[2:]]


def test_what_leaves_its_last_repository_is_in_none_since_then_until_it_is_put_back(
    recorder: Recorder, database: Place
) -> None:
    store(recorder, spec("a"))
    (unit,) = recorder.units()
    assert recorder.dissociate([unit], "testing") == 1
    (left,) = recorder.units()
    assert left.repositories == ()
    assert left.unlisted_at is not None
    assert left.stored_at is not None
    assert left.unlisted_at >= left.stored_at
    assert recorder.dissociate([unit], "testing") == 0
    assert list(recorder.units()) == [left]
    assert recorder.associate([unit], "other") == 1
    assert list(recorder.units()) == [replace(unit, repositories=("other",))]
    assert [tuple(row) for row in database.rows("SELECT unlisted_at_us FROM units")] == [(None,)]


def test_what_is_not_recorded_is_passed_over(recorder: Recorder) -> None:
    store(recorder, spec("a"))
    (unit,) = recorder.units()
    stranger = replace(unit, key={**unit.key, "path": "b"}, path="b")
    assert recorder.associate([stranger, unit], "stable") == 1
    assert recorder.count() == 1


def test_a_repository_is_removed_and_its_units_stay(recorder: Recorder) -> None:
    for name in "abc":
        store(recorder, spec(name))
    recorder.associate([unit for unit in recorder.units() if unit.path == "a"], "stable")
    assert recorder.remove_repository("testing") == 3
    assert recorder.repositories() == ["stable"]
    assert [unit.unlisted_at is None for unit in recorder.units()] == [True, False, False]
    assert recorder.remove_repository("testing") == 0
    store(recorder, spec("d"))
    assert held(recorder, "testing") == ["d"]


def test_a_wrong_use_is_told(recorder: Recorder) -> None:
    with pytest.raises(SpecError, match="a repository has a name"):
        recorder.associate([], "")
    with pytest.raises(SpecError, match=r"as recorder\.units\(\) gives them, not str"):
        recorder.dissociate(["a"], "testing")  # type: ignore[list-item]


def test_the_commands_add_to_a_repository_and_remove_one(mirror: Mirror, tmp_path: Path) -> None:
    urls = [mirror.serves(name.encode(), name=name).url for name in ("a.rpm", "b.rpm", "c.deb")]
    assert run("get", *urls, "--into", "m", "--repository", "testing", cwd=tmp_path).code == 0

    def asked(*arguments: str) -> Done:
        return run("repositories", *arguments, "--into", "m", cwd=tmp_path)

    def sums() -> dict[str, int]:
        return {one["name"]: one["units"] for one in asked("list", "--json").objects}

    done = asked("add", "stable", "*.rpm")
    assert (done.code, done.out) == (0, "")
    assert "2 units were added to 'stable'; 0 others were in it already" in done.err
    (told,) = asked("add", "stable", "--from", "testing", "--json").objects
    assert told == {"repository": "stable", "chosen": 3, "added": 1}
    assert asked("add", "debs", "*.deb", "--from", "testing").code == 0
    assert sums() == {"debs": 1, "stable": 3, "testing": 3}
    for words, said in (
        (("add", "x", "*.rpm", "no/such"), "no unit has the path 'no/such': nothing is added"),
        (("add", "x", "a.rpm", "--from", "debs"), "no unit of 'debs' has the path 'a.rpm'"),
        (("add", "x", "--from", "no"), "no repository is called 'no'"),
        (("remove", "no"), "no repository is called 'no'"),
    ):
        failed = asked(*words)
        assert failed.code == 7
        assert said in failed.err
    assert asked("add", "x").code == 2
    assert "x" not in sums()
    (told,) = asked("remove", "testing", "--json").objects
    assert told == {"repository": "testing", "taken_off": 3}
    assert asked("remove", "debs").code == 0
    assert sums() == {"stable": 3}
    assert run("units", "gc", "--into", "m", "--grace", "0s", "--json", cwd=tmp_path).objects[-1]["units"] == 0
    assert asked("remove", "stable").code == 0
    assert (tmp_path / "m" / "a.rpm").exists()
    assert run("units", "gc", "--into", "m", "--grace", "0s", "--json", cwd=tmp_path).objects[-1]["units"] == 3
    assert not (tmp_path / "m" / "a.rpm").exists()
