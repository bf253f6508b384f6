"""``geofetch units`` and ``geofetch verify``: what is remembered, and whether it is still true."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geofetch import Recorder

from .origin.scenes import Scene
from .support.mirrors import Mirror, Tree
from .test_cli import Done, files_in, run, started


@pytest.fixture
def tree(mirror: Mirror) -> Tree:
    return mirror.tree(12, (10, 500))


@pytest.fixture
def store(tree: Tree, tmp_path: Path) -> Path:
    """A folder that was synced."""
    assert run("sync", tree.sums_url, "--into", "store", "--repository", "main", cwd=tmp_path).code == 0
    return tmp_path / "store"


def units(*arguments: str | Path, store: Path, **how: Any) -> Done:
    return run("units", *arguments, "--into", store, cwd=store.parent, **how)


def verify(*arguments: str, store: Path) -> Done:
    return run("verify", "--into", store, *arguments, cwd=store.parent)


def flipped(path: Path) -> bytes:
    """One bit of a file, neither its size nor its time; what it held before."""
    before, body = path.stat(), path.read_bytes()
    path.write_bytes(bytes([body[0] ^ 1]) + body[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return body


def test_units_are_listed_filtered_and_parted_by_tabs(store: Path, tree: Tree) -> None:
    lines = units("list", store=store).out.splitlines()
    assert [line.split("\t")[1:] for line in sorted(lines, key=lambda line: line.split("\t")[3])] == [
        ["present", str(len(tree.contents[name])), name, url] for name, url in zip(tree.names, tree.urls, strict=True)
    ]
    assert len(units("list", "-n", "5", store=store).out.splitlines()) == 5
    assert len(units("list", "--path", "f0000*", store=store).out.splitlines()) == 10
    assert units("list", "--state", "missing", store=store).out == ""


def test_a_unit_is_shown_by_its_path_its_id_and_its_key(store: Path, tree: Tree) -> None:
    by_path = json.loads(units("show", tree.names[3], store=store).out)
    assert by_path["digests"][0]["value"] == tree.digests[tree.names[3]]
    assert json.loads(units("show", str(by_path["id"]), "--json", store=store).out) == by_path
    key = json.dumps({"type": by_path["unit"]["type"], **by_path["unit"]["key"]})
    assert json.loads(units("show", key, store=store).out) == by_path
    unknown = units("show", "nobody", store=store)
    assert unknown.code == 2
    assert "no unit goes by 'nobody'" in unknown.err


def test_queries_are_masked_where_they_are_shown_and_kept_where_repair_needs_them(
    mirror: Mirror, tmp_path: Path
) -> None:
    url = mirror.serves(b"x", name="a").url + "?n=1"
    assert run("get", url, "--into", "store", cwd=tmp_path).code == 0
    store = tmp_path / "store"
    for told in (units("list", store=store), units("list", "--json", store=store), units("show", "a", store=store)):
        assert "?n=***" in told.out
        assert "?n=1" not in told.out
    assert "?n=1" in units("export", store=store).out


@pytest.mark.parametrize("way", ["folder", "lines"])
def test_what_is_exported_can_be_imported(way: str, store: Path, tmp_path: Path) -> None:
    told = units("export", store=store).out
    if way == "folder":
        assert units("export", "--to", "files", store=store).code == 0
        assert len(list((tmp_path / "files").iterdir())) == 12
        done = run("units", "import", "files", "--db", "sqlite:///other.db", cwd=tmp_path)
    else:
        done = run("units", "import", "-", "--db", "sqlite:///other.db", cwd=tmp_path, said=told)
    assert done.code == 0, done.err
    assert "12 units were imported: 12 new" in done.err
    other = [json.loads(line) for line in told.splitlines()]
    other[3]["sources"][0]["priority"] += 1
    lines = "".join(json.dumps(one) + "\n" for one in other)
    for said, words in ((lines, "1 replaced, 11 known"), (told, "1 replaced, 11 known"), (told, "12 known")):
        done = run("units", "import", "-", "--db", "sqlite:///other.db", cwd=tmp_path, said=said)
        assert f"12 units were imported: {words}\n" in done.err
    again = run("units", "export", "--db", "sqlite:///other.db", cwd=tmp_path).out
    assert sorted(again.splitlines()) == sorted(told.splitlines())
    assert run("verify", "--db", "sqlite:///other.db", cwd=tmp_path).code == 0


def test_one_is_told_of_as_one(mirror: Mirror, tmp_path: Path) -> None:
    file, gone = mirror.serves(b"x", name="a"), mirror.serves(b"y", name="b")
    manifest = tmp_path / "list"
    manifest.write_text(f"{file.url}\n{gone.url}\n")
    told = [run("sync", "list", "--into", "store", "--repository", "main", cwd=tmp_path)]
    manifest.write_text(f"{file.url}\n")
    for command in (
        ["sync", "list", "--repository", "main", "--mirror"],
        ["sync", "list", "--repository", "main", "--later"],
        ["units", "export", "--path", "a", "--to", "files"],
        ["units", "import", "files"],
        ["sources", "test", "--path", "a"],
    ):
        told.append(run(*command, "--into", "store", cwd=tmp_path))
    assert [done.code for done in told] == [0] * 6
    words = "".join(done.err for done in told)
    for line in (
        "1 unit is not listed any more, and taken off 'main'",
        "0 files are to be fetched by geofetch repair; 1 is stored already",
        "1 unit file is in files",
        "1 unit was imported",
        "1 source was asked, 1 answered",
    ):
        assert line in words
    assert not re.search(r"\b1 (?!units gc)\w+s (are|were)\b", words)


def test_a_unit_file_that_is_none_says_where(store: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}\n")
    done = run("units", "import", "bad.json", "--into", store, cwd=tmp_path)
    assert done.code == 2
    assert "bad.json" in done.err
    assert "schema is missing" in done.err


def test_what_is_right_is_verified(store: Path) -> None:
    done = verify("--json", store=store)
    assert done.code == 0, done.err
    (summary,) = done.objects
    assert {name: summary[name] for name in ("ok", "checked", "present", "corrupt", "missing", "repair")} == {
        "ok": True,
        "checked": 12,
        "present": 12,
        "corrupt": 0,
        "missing": 0,
        "repair": None,
    }


def test_what_is_wrong_is_found_exactly_and_mended(store: Path, tree: Tree) -> None:
    body = flipped(store / tree.names[1])
    (store / tree.names[2]).unlink()
    (store / tree.names[3]).write_bytes(b"")
    found = verify("--json", store=store)
    assert found.code == 11
    *wrong, summary = found.objects
    assert {one["path"]: one["state"] for one in wrong} == {
        tree.names[1]: "corrupt",
        tree.names[2]: "missing",
        tree.names[3]: "corrupt",
    }
    assert (summary["exit_code"], summary["present"]) == (11, 9)
    assert len(units("list", "--state", "corrupt", "--state", "missing", store=store).out.splitlines()) == 3

    mended = verify("--repair", "--json", store=store)
    assert mended.code == 0, mended.err
    assert mended.objects[-1]["repair"] == {"repaired": 3}
    assert (store / tree.names[1]).read_bytes() == body
    assert {name: (store / name).read_bytes() for name in tree.names} == tree.contents
    assert verify(store=store).code == 0


def test_what_no_source_has_is_put_aside_and_flagged(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(b"once", name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    store = tmp_path / "store"
    flipped(store / "a")
    mirror.serves(status=404, at=source.path)
    done = verify("--repair", "--json", store=store)
    assert done.code == 11
    *_, repair, summary = done.objects
    assert (repair["event"], repair["state"], repair["ok"]) == ("repair", "quarantined", False)
    assert summary["repair"] == {"quarantined": 1}
    assert Path(repair["aside"]).read_bytes() == b"nnce"
    assert not (store / "a").exists()
    assert "not mended: a: quarantined" in done.err
    assert verify(store=store).code == 11


def test_a_signal_ends_a_repair_and_leaves_what_was_there(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.plays([Scene(body=b"whole" * 999), Scene(body=b"whole" * 999, stall=20)], name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    store = tmp_path / "store"
    flipped(store / "a")
    wrong = (store / "a").read_bytes()
    with started("verify", "--repair", "--json", "--into", store, cwd=tmp_path) as process:
        source.arrived(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["signal"] == signal.SIGINT
    assert (store / "a").read_bytes() == wrong
    assert not [name for name in files_in(store) if ".part-" in name]
    source.release()
    assert verify("--repair", store=store).code == 0
    assert (store / "a").read_bytes() == b"whole" * 999


def test_a_part_of_it_is_verified(store: Path, tree: Tree) -> None:
    assert verify("--json", "--sample", "25%", store=store).objects[-1]["checked"] == 3
    assert verify("--json", "--sample", "5", store=store).objects[-1]["checked"] == 5
    assert verify("--json", "--path", tree.names[0], store=store).objects[-1]["checked"] == 1
    assert verify("--json", "--repository", "main", "--older-than", "1d", store=store).objects[-1]["checked"] < 12
    misspelt = verify("--repository", "mian", store=store)
    assert misspelt.code == 2
    assert "no repository is called 'mian'" in misspelt.err


def test_a_folder_that_was_moved_is_still_its_own(store: Path, tree: Tree, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(store, moved)
    flipped(moved / tree.names[4])
    assert verify("--json", store=moved).objects[-1]["checked"] == 12
    assert verify("--repair", store=moved).code == 0
    assert (moved / tree.names[4]).read_bytes() == tree.contents[tree.names[4]]


def test_a_folder_that_was_copied_with_its_records_is_its_own(store: Path, tree: Tree, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, symlinks=True)
    shutil.rmtree(store)
    (copy / tree.names[4]).unlink()
    assert verify("--json", store=copy).objects[-1]["missing"] == 1
    assert verify("--repair", store=copy).code == 0
    assert (copy / tree.names[4]).read_bytes() == tree.contents[tree.names[4]]


@pytest.mark.parametrize("flags", [(), ("--repair",), ("--json",), ("--older-than", "30d")], ids=" ".join)
def test_a_folder_that_the_records_do_not_know_is_not_verified(flags: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "a").write_bytes(b"x")
    db = ("--db", "sqlite:///u.db")
    assert run("get", f"file://{tmp_path}/origin/a", "-d", "first", *db, cwd=tmp_path).code == 0
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    done = run("verify", "--into", "copy", *db, *flags, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert f"nothing was checked: these records know no such file in copy, but in {tmp_path}/first;" in done.err
    assert "copy it together with its .geofetch, and leave out --db" in done.err
    assert run("verify", "--into", "first", *db, *flags, cwd=tmp_path).code == 0


def test_where_the_folder_is_known_files_of_others_are_passed_over(tmp_path: Path) -> None:
    db = ("--db", "sqlite:///u.db")
    for name in ("one", "two"):
        (tmp_path / f"{name}.src").write_bytes(name.encode())
        assert run("get", f"file://{tmp_path}/{name}.src", "-d", name, *db, cwd=tmp_path).code == 0
    for checked in (1, 0):  # the second time it was looked at just now, and the other one never
        done = run("verify", "--into", "one", *db, "--older-than", "1d", "--json", cwd=tmp_path)
        assert done.code == 0
        assert (done.objects[-1]["checked"], done.objects[-1]["passed_over"]) == (checked, 1)
    other = run("verify", "--into", "one", *db, "--path", "two.*", cwd=tmp_path)
    assert other.code == 2
    assert "nothing was checked" in other.err


def test_units_that_were_imported_from_another_folder_are_not_verified_here(tmp_path: Path) -> None:
    (tmp_path / "a.src").write_bytes(b"a")
    assert run("get", f"file://{tmp_path}/a.src", "--into", "first", cwd=tmp_path).code == 0
    (tmp_path / "all.jsonl").write_text(run("units", "export", "--into", "first", cwd=tmp_path).out)
    assert run("units", "import", "all.jsonl", "--into", "second", cwd=tmp_path).code == 0
    done = run("verify", "--into", "second", cwd=tmp_path)
    assert done.code == 2
    assert f"but in {tmp_path}/first;" in done.err
    assert "--db" not in done.err


def test_a_file_whose_profile_nobody_can_give_stays_and_the_cure_is_told(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(b"once", name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    store = tmp_path / "store"
    with Recorder(f"sqlite:///{store}/.geofetch/units.db") as recorder:
        (unit,) = recorder.units()
        recorder.put_unit(replace(unit, sources=(replace(unit.sources[0], profile="inside"),))).get()
    flipped(store / "a")
    done = verify("--repair", "--json", store=store)
    assert done.code == 11
    assert [one.get("state") for one in done.objects[:-1]] == ["corrupt", "corrupt"]
    assert (store / "a").read_bytes() == b"nnce"
    assert "not mended: a: corrupt: " in done.err
    assert "names the profile 'inside', and it was not given" in done.err
    assert "profiles that are not kept here (inside); geofetch profiles add NAME keeps one" in done.err
    # The cure that is told is one.
    assert run("get", source.url, "--into", "store", "-o", "a", "-H", "X-Team: mirrors", cwd=tmp_path).code == 0
    assert verify(store=store).code == 0


def test_a_folder_that_is_gone_is_not_ten_thousand_missing_files(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.serves(b"x", name="a").url
    assert run("get", url, "-d", "mounted", "--db", "sqlite:///u.db", cwd=tmp_path).code == 0
    shutil.rmtree(tmp_path / "mounted")
    done = run("verify", "--db", "sqlite:///u.db", cwd=tmp_path)
    assert done.code == 12
    assert "is its disk mounted?" in done.err
    (unit,) = run("units", "list", "--json", "--db", "sqlite:///u.db", cwd=tmp_path).objects
    assert unit["stored"]["state"] == "present"
