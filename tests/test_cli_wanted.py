"""What is wanted and not fetched yet: ``sync --policy``, ``--later``, and what ``repair`` and ``verify`` make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geofetch import FileStore, Recorder
from geofetch.upkeep import repair, verify

from .support.mirrors import Mirror
from .support.process import ROOT
from .test_cli import run
from .test_cli_sync import stored, units_of


def test_what_is_listed_on_demand_is_recorded_and_nobody_is_asked(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(4, (1, 2000))
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    command = ("sync", "SHA256SUMS", "--base", tree.base, "--into", "store", "--repository", "main")
    done = run(*command, "--policy", "on_demand", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    *files, summary = done.objects
    assert {(one["event"], one["state"], one["ok"], one["pending"]) for one in files} == {
        ("wanted", "wanted", False, None)
    }
    assert summary["wanted"] == {"wanted": 4, "present": 0, "differs": 0}
    assert (tree.hits, stored(tmp_path / "store")) == ({}, set())
    units = units_of(tmp_path / "store")
    assert {one["digests"][0]["value"] for one in units.values()} == set(tree.digests.values())
    assert {(one["stored"]["state"], one["policy"], one["stored_at"]) for one in units.values()} == {
        ("missing", "on_demand", None)
    }
    # Nothing is wrong with that.
    done = run("verify", "--into", "store", "--json", cwd=tmp_path)
    assert (done.code, done.objects[-1]["checked"], done.objects[-1]["not_fetched"]) == (0, 0, 4)
    assert "4 not fetched yet" in run("verify", "--into", "store", cwd=tmp_path).err
    done = run("repair", "--into", "store", "--json", cwd=tmp_path)
    assert (done.code, done.objects[-1]["tried"], tree.hits) == (0, 0, {})
    (told,) = run("repositories", "list", "--into", "store", "--json", cwd=tmp_path).objects
    assert told == {"name": "main", "units": 4, "bytes": 0, "states": {}, "not_fetched": 4}
    assert "not fetched\t4" in run("repositories", "show", "main", "--into", "store", cwd=tmp_path).out
    # Unless somebody asks for it; then it stays what it is.
    done = run("repair", "--on-demand", "--into", "store", "--json", cwd=tmp_path)
    assert (done.code, done.objects[-1]["repaired"]) == (0, 4), done.err
    assert {name: (tmp_path / "store" / name).read_bytes() for name in stored(tmp_path / "store")} == tree.contents
    assert {(one["stored"]["state"], one["policy"]) for one in units_of(tmp_path / "store").values()} == {
        ("present", "on_demand")
    }
    done = run(*command, "--policy", "streamed", "--json", cwd=tmp_path)
    assert done.objects[-1]["wanted"] == {"wanted": 0, "present": 4, "differs": 0}
    assert {(one["stored"]["state"], one["policy"]) for one in units_of(tmp_path / "store").values()} == {
        ("present", "streamed")
    }
    assert run(*command, "--policy", "immediate", cwd=tmp_path).code == 0
    assert {one["policy"] for one in units_of(tmp_path / "store").values()} == {"immediate"}


def test_what_is_put_off_is_fetched_by_repair(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(3, (1, 2000))
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    sync = ("sync", "SHA256SUMS", "--base", tree.base, "--into", "store")
    done = run(*sync, "--later", cwd=tmp_path)
    assert (done.code, tree.hits) == (0, {})
    assert "3 files are to be fetched by geofetch repair" in done.err
    gone = tree.names[0]
    mirror.serves(at=f"{tree.urls[0].partition(str(mirror.port))[2]}", status=404)
    done = run("repair", "--into", "store", "--json", "--retries", "0", cwd=tmp_path)
    assert (done.code, done.objects[-1]["repaired"], done.objects[-1]["missing"]) == (11, 2, 1), done.err
    (left,) = run("units", "list", "--pending", "--into", "store", "--json", cwd=tmp_path).objects
    assert (left["stored"]["path"], left["pending"], left["tries"]) == (gone, "fetch", 1)
    assert "not fetched yet" in left["scrub_result"]
    run(*sync, "--later", cwd=tmp_path)
    assert units_of(tmp_path / "store")[gone]["tries"] == 1  # the same sync changes nothing
    (source,) = [
        one for one in run("sources", "list", "--into", "store", "--json", cwd=tmp_path).objects if one["path"] == gone
    ]
    assert source["cooldown_until"] == source["last_failed_at"] + 60_000_000
    mirror.serves(tree.contents[gone], at=f"{tree.urls[0].partition(str(mirror.port))[2]}")
    assert run("repair", "--into", "store", cwd=tmp_path).code == 0
    assert {(one["pending"], one["tries"]) for one in units_of(tmp_path / "store").values()} == {(None, 0)}
    assert stored(tmp_path / "store") == set(tree.names)


@pytest.mark.parametrize("flag", [("--later",), ("--policy", "on_demand")], ids=["later", "on demand"])
def test_a_folder_that_nothing_was_stored_in_yet_is_none_that_is_unmounted(
    flag: tuple[str, ...], mirror: Mirror, tmp_path: Path
) -> None:
    tree = mirror.tree(3, (1, 2000))
    db = ("--db", "sqlite:///l.db")
    assert run("sync", tree.sums_url, "--into", "new", *db, *flag, cwd=tmp_path).code == 0
    url = mirror.serves(b"x", name="x").url
    assert run("get", url, "--into", "other", *db, cwd=tmp_path).code == 0
    for where in (("--into", "new"), ()):
        done = run("verify", *where, *db, "--json", cwd=tmp_path)
        assert (done.code, done.objects[-1]["not_fetched"]) == (0, 3), done.err
    assert not (tmp_path / "new").exists()
    if flag == ("--later",):
        (tmp_path / "new").mkdir()  # what users try
    done = run("repair", "--into", "new", *db, "--on-demand", cwd=tmp_path)
    assert done.code == 0, done.err
    assert {name: (tmp_path / "new" / name).read_bytes() for name in stored(tmp_path / "new")} == tree.contents
    # From now on it is one whose disk may be missing.
    (tmp_path / "new").rename(tmp_path / "unmounted")
    done = run("repair", "--into", "new", *db, "--on-demand", cwd=tmp_path)
    assert done.code == 12, done.err
    assert f"new is not there; is its disk mounted? If all of it is gone, make the folder {tmp_path}/new/.geofetch" in (
        done.err
    )


def test_a_file_that_is_stored_in_another_version_stays_and_is_told(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(2, (1, 2000))
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    sync = ("sync", "SHA256SUMS", "--base", tree.base, "--into", "store")
    assert run(*sync, cwd=tmp_path).code == 0
    first, second = tree.names
    before = units_of(tmp_path / "store")[first]
    (tmp_path / "SHA256SUMS").write_text(f"{'ab' * 32}  {first}\n{tree.digests[second]}  {second}\n")
    done = run(*sync, "--policy", "on_demand", "--json", cwd=tmp_path)
    assert [(one["path"], one["state"], one["ok"]) for one in done.objects[:-1]] == [
        (first, "differs", False),
        (second, "present", True),
    ]
    assert "another version" in run(*sync, "--policy", "on_demand", cwd=tmp_path).err
    assert units_of(tmp_path / "store")[first] == {**before, "policy": "on_demand"}
    assert (tmp_path / "store" / first).read_bytes() == tree.contents[first]


def test_what_a_wanted_list_does_not_hold_any_more_leaves_the_repository(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(3, (1, 2000))
    listed = tmp_path / "list"
    listed.write_text("\n".join(tree.urls))
    sync = ("sync", "list", "--into", "store", "--repository", "main", "--mirror", "--policy", "streamed", "--json")
    assert run(*sync, cwd=tmp_path).code == 0
    listed.write_text("\n".join(tree.urls[1:]))
    done = run(*sync, cwd=tmp_path)
    assert (done.objects[-1]["taken_off"], tree.hits) == (1, {})
    units = units_of(tmp_path / "store")
    assert [name for name, one in units.items() if one["unlisted_at"] is not None] == [tree.names[0]]
    found = run("units", "list", "--policy", "streamed", "--into", "store", "--json", cwd=tmp_path)
    assert len(found.objects) == 3


def test_a_wanted_unit_is_exported_and_imported(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(2)
    (tmp_path / "list").write_text("\n".join(tree.urls))
    assert run("sync", "list", "--into", "store", "--later", cwd=tmp_path).code == 0
    done = run("units", "export", "--into", "store", cwd=tmp_path)
    (tmp_path / "all.jsonl").write_text(done.out)
    assert run("units", "import", "all.jsonl", "--db", f"sqlite:///{tmp_path}/other.db", cwd=tmp_path).code == 0
    again = run("units", "export", "--db", f"sqlite:///{tmp_path}/other.db", cwd=tmp_path)
    assert again.objects == done.objects
    assert {(one["pending"], one["size_bytes"]) for one in again.objects} == {("fetch", None)}


def test_later_is_not_on_demand(tmp_path: Path) -> None:
    done = run("sync", "list", "--into", "store", "--later", "--policy", "on_demand", cwd=tmp_path)
    assert done.code == 2
    assert "--later" in done.err


#: Wants files, fetches them by repair, and is killed before the nth commit of the repair, or not at all.
KILLED = """
import os, signal, sys
import peewee
from geofetch import FileStore, Recorder, repair

root, strike = sys.argv[1], int(sys.argv[2])
recorder, store = Recorder(f"sqlite:///{root}/units.db"), FileStore(f"{root}/srv")
recorder.count()
count, whole = 0, peewee.SqliteDatabase.commit

def commit(self):
    global count
    count += 1
    if count == strike:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self)

peewee.SqliteDatabase.commit = commit
print("repaired", repair(recorder, store, progress=False).repaired)
recorder.close()
store.close()
"""


def test_killed_before_any_commit_what_is_not_recorded_is_owed_still(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    content = {f"{number}.bin": b"%d" % number * 50 for number in range(5)}
    for name, body in content.items():
        (tmp_path / "origin" / name).write_bytes(body)
    struck = 0
    for strike in range(1, 30):
        root = tmp_path / str(strike)
        root.mkdir()
        store = FileStore(root / "srv")
        with Recorder(f"sqlite:///{root}/units.db") as recorder:
            for name in content:
                spec = {"source": f"file://{tmp_path}/origin/{name}", "path": name, "size": len(content[name])}
                recorder.want(spec, store.name, policy="immediate", pending=True).get()
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, str(root), str(strike)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if ran.returncode == 0:
            assert "repaired 5" in ran.stdout
        else:
            assert ran.returncode == -9, ran.stderr
            struck += 1
        with Recorder(f"sqlite:///{root}/units.db") as recorder:
            for unit in recorder.units():
                assert (unit.state, unit.pending) in (("present", None), ("missing", "fetch"))
                if unit.state == "present":
                    assert (root / "srv" / unit.store_key).read_bytes() == content[unit.path]
            done = repair(recorder, store, progress=False)
            assert done.ok
            assert recorder.count(state="present") == 5
            assert recorder.count(pending=True) == 0
            assert verify(recorder, store).present == 5
        if ran.returncode == 0:
            break
    assert struck >= 2


def document(**told: Any) -> str:
    return json.dumps(told)


def test_a_source_that_a_list_says_has_expired_is_not_asked(mirror: Mirror, tmp_path: Path) -> None:
    stale, fresh = mirror.serves(b"stale"), mirror.serves(b"fresh")
    listed = document(
        sources=[{"url": stale.url, "expires_at": 1_000_000_000}, {"url": fresh.url, "priority": 9}], path="a"
    )
    (tmp_path / "list.jsonl").write_text(listed)
    assert run("sync", "list.jsonl", "--into", "store", cwd=tmp_path).code == 0
    assert (stale.hits, fresh.hits, (tmp_path / "store" / "a").read_bytes()) == (0, 1, b"fresh")
    found = run("sources", "list", "--into", "store", "--json", cwd=tmp_path).objects
    assert [one["expires_at"] for one in found] == [1_000_000_000_000_000, None]
