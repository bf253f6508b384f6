"""Records that lie in the folder they are about go with it, whether it is moved, copied or linked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import geofetch
from tests.support.mirrors import Mirror


def synced(mirror: Mirror, root: Path, body: bytes = b"the file") -> geofetch.Spec:
    spec = geofetch.Spec(mirror.serves(body, name="a.rpm").url, size=len(body))
    again(spec, root)
    return spec


def again(spec: geofetch.Spec, root: Path) -> geofetch.Outcome:
    store = geofetch.FileStore(root)
    recorder = geofetch.Recorder(f"sqlite:///{root}/.geofetch/units.db")
    with recorder, geofetch.Pool(1, store=store, recorder=recorder, progress=False) as pool:
        (outcome,) = pool.map([spec])
    store.close()
    return outcome.raise_for_error()


def checked(root: Path) -> tuple[int, dict[str, int]]:
    store = geofetch.FileStore(root)
    with geofetch.Recorder(f"sqlite:///{root}/.geofetch/units.db") as recorder:
        found = geofetch.verify(recorder, store)
        units = recorder.count()
    store.close()
    return units, {name: value for name, value in found.counts.items() if value}


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
def test_the_folder_is_known_by_where_it_is_now(mirror: Mirror, tmp_path: Path, how: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    spec = synced(mirror, old)
    if how == "moved":
        old.rename(new)
    elif how == "copied":
        shutil.copytree(old, new)
    else:
        new.symlink_to(old)
    assert checked(new) == (1, {"present": 1})
    assert again(spec, new).state == "adopted"
    assert checked(new) == (1, {"present": 1})


def test_a_copy_is_held_against_its_own_records(mirror: Mirror, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    synced(mirror, old)
    shutil.copytree(old, new)
    (new / "a.rpm").write_bytes(b"the fibe")
    assert checked(old) == (1, {"present": 1})
    assert checked(new) == (1, {"corrupt": 1})
    (old / "a.rpm").unlink()
    assert checked(old) == (1, {"missing": 1})


def test_a_unit_says_where_it_is_now(mirror: Mirror, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    synced(mirror, old)
    old.rename(new)
    with geofetch.Recorder(f"sqlite:///{new}/.geofetch/units.db") as recorder:
        unit = recorder.unit("a.rpm")
        assert unit is not None
        assert (unit.store, unit.key["store"]) == (f"file://{new}", f"file://{new}")
        assert recorder.unit({"type": "file", **unit.key}) == unit
        assert recorder.recall(unit.store, "a.rpm") is not None
        assert [one.id for one in recorder.units(store=unit.store)] == [unit.id]


def test_records_elsewhere_keep_the_whole_name(mirror: Mirror, tmp_path: Path) -> None:
    store = geofetch.FileStore(tmp_path / "srv")
    with geofetch.Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        with geofetch.Pool(1, store=store, recorder=recorder, progress=False) as pool:
            pool.map([mirror.serves(b"x", name="a.rpm").url])[0].raise_for_error()
        (unit,) = recorder.units()
        assert unit.store == store.name
    store.close()
