"""``geofetch verify`` that was ended, ``repair``, ``sources`` and ``repositories``."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geofetch import Profile, Recorder, Session, Source
from geofetch.cli.interrupted import Note
from geofetch.records import Unit
from geofetch.upkeep import ask

from .origin.scenes import Scene
from .support.mirrors import Mirror, Origins, Tree
from .support.waiting import until
from .test_cli import ROOT, Done, run, started
from .test_cli_units import flipped, units, verify

SIZE = 100_000


@pytest.fixture
def tree(mirror: Mirror) -> Tree:
    return mirror.tree(30, (SIZE, SIZE))


@pytest.fixture
def store(tree: Tree, tmp_path: Path) -> Path:
    """A folder that was synced."""
    assert run("sync", tree.sums_url, "--into", "store", "--repository", "main", cwd=tmp_path).code == 0
    return tmp_path / "store"


def repair(*arguments: str, store: Path) -> Done:
    return run("repair", "--into", store, *arguments, cwd=store.parent)


def note(store: Path) -> Path:
    return store / ".geofetch" / "units.db.verify"


def scrubbed(store: Path) -> list[str]:
    """The files that a verify has read, by the records."""
    with Recorder(f"sqlite:///{store}/.geofetch/units.db") as recorder:
        return [unit.path for unit in recorder.units() if unit.scrubbed_at is not None]


# --------------------------------------------------------------------------------------------------------- gone on with


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_verify_that_was_ended_is_gone_on_with(number: int, store: Path) -> None:
    first = json.loads(units("list", "--json", "-n", "1", store=store).out)["unit"]["key"]["path"]
    flipped(store / first)
    slow = ("verify", "--into", store, "--rate", "400K", "--threads", "2")
    with started(*slow, cwd=store.parent) as process:
        until(lambda: len(scrubbed(store)) >= 4, 60)
        process.send_signal(number)
        began = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    read = scrubbed(store)
    assert first in read
    assert len(read) < 30
    assert note(store).exists()

    done = verify("--resume", "--json", store=store)
    assert done.code == 11
    wrong, summary = done.objects
    assert (wrong["path"], wrong["state"]) == (first, "corrupt")
    assert (summary["resumed"], summary["checked"], summary["present"], summary["corrupt"]) == (True, 30, 29, 1)
    assert summary["read_bytes"] == (30 - len(read)) * SIZE
    assert "going on with the verify of" in done.err
    assert not note(store).exists()

    anew = verify("--resume", "--json", store=store)
    assert (anew.objects[-1]["resumed"], anew.objects[-1]["read_bytes"]) == (False, 30 * SIZE)
    assert "all is read" in anew.err


def test_a_verify_of_other_flags_is_another_one(store: Path) -> None:
    note(store).write_text(json.dumps({"{}": time.time()}))
    done = verify("--resume", "--json", "--repository", "main", store=store)
    assert (done.objects[-1]["resumed"], done.objects[-1]["read_bytes"]) == (False, 30 * SIZE)
    assert json.loads(note(store).read_text()).keys() == {"{}"}


def test_a_verify_that_ends_leaves_the_note_of_one_that_began_since(tmp_path: Path) -> None:
    first, second = (Note(f"sqlite:///{tmp_path}/units.db", {"repository": None}) for _ in range(2))
    first.write(1.0)
    second.write(2.0)
    first.remove()
    assert second.began_at() == 2.0
    second.remove()
    assert list(tmp_path.iterdir()) == []


_NOTING = """
import sys
from geofetch.cli.interrupted import Note
note = Note(sys.argv[1], {"repository": sys.argv[2]})
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    note.write(float(number))
    note.remove()
    assert note.began_at() is None
"""


def test_a_note_that_was_removed_does_not_come_back_by_another_verify(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/units.db"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", _NOTING, url, name], **pipes) for name in "abcd"]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in running:
        one.communicate(timeout=60)
    assert [one.returncode for one in running] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_is_damaged_is_none(store: Path) -> None:
    note(store).write_text("[1")
    assert verify("--resume", "--json", store=store).objects[-1]["read_bytes"] == 30 * SIZE
    assert not note(store).exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--resume", "--sample", "5%"), "leave out --sample"),
        (("--rate", "0"), "bytes a second above 0"),
        (("--rate", "fast"), "bytes a second above 0"),
        (("--threads", "0"), "--threads"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_cannot_be_verified_so_is_a_wrong_usage(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = run("verify", "--into", "store", *flags, cwd=tmp_path)
    assert done.code == 2
    assert words in done.err


# --------------------------------------------------------------------------------------------------------------- repair


def test_exactly_what_was_harmed_is_found_healed_and_kept_aside(mirror: Mirror, tmp_path: Path) -> None:
    """Acceptance 4 of the fourth issue, on a fifth of the files: 80 harmed, the sources of 5 dead."""
    tree = mirror.tree(2000, (200, 3000))
    assert run("sync", tree.sums_url, "--into", "store", "-q", cwd=tmp_path).code == 0
    store, dice = tmp_path / "store", random.Random(4)
    harmed = dice.sample(tree.names, 80)
    bits, cut, gone = harmed[:50], harmed[50:70], harmed[70:]
    for name in bits:
        flipped(store / name)
    for name in cut:
        os.truncate(store / name, (store / name).stat().st_size // 2)
    for name in gone:
        (store / name).unlink()
    dead = bits[:3] + cut[:2]
    for name in dead:
        mirror.serves(status=404, at=tree.base.removeprefix(mirror.base) + name)
    wrong = {name: (store / name).read_bytes() for name in dead}

    found = verify("--json", store=store)
    *each, summary = found.objects
    assert found.code == 11
    assert {one["path"]: one["state"] for one in each} == {
        **dict.fromkeys(bits + cut, "corrupt"),
        **dict.fromkeys(gone, "missing"),
    }
    assert (summary["checked"], summary["present"], summary["corrupt"], summary["missing"]) == (2000, 1920, 70, 10)

    mended = repair("--json", store=store)
    *each, summary = mended.objects
    assert mended.code == 11
    assert summary["found"] == {"corrupt": {"repaired": 65, "quarantined": 5}, "missing": {"repaired": 10}}
    assert (summary["tried"], summary["repaired"], summary["quarantined"]) == (80, 75, 5)
    aside = {one["path"]: Path(one["aside"]).read_bytes() for one in each if not one["ok"]}
    assert aside == wrong
    assert {name: (store / name).read_bytes() for name in tree.names if name not in dead} == {
        name: body for name, body in tree.contents.items() if name not in dead
    }
    assert not any((store / name).exists() for name in dead)

    hits = tree.hits
    again = repair("--json", store=store)
    assert again.code == 11
    assert again.objects[-1]["found"] == {"quarantined": {"quarantined": 5}}
    assert tree.hits == hits  # nobody is asked for what is right
    assert repair("--json", "--state", "corrupt", "--state", "missing", store=store).objects[-1]["tried"] == 0
    assert verify("--json", store=store).objects[-1]["quarantined"] == 5


def test_a_repair_tells_a_table_and_reads_nothing_that_is_right(store: Path, tree: Tree) -> None:
    (store / tree.names[0]).unlink()
    flipped(store / tree.names[1])
    assert verify(store=store).code == 11
    before = scrubbed(store)
    flipped(store / tree.names[2])  # no verify has found it yet
    done = repair(store=store)
    assert done.code == 0, done.err
    assert [line.split("\t") for line in done.out.splitlines()] == [
        ["corrupt", "1", "0", "0", "0", "0", "0", "1"],
        ["missing", "1", "0", "0", "0", "0", "0", "1"],
    ]
    assert "to repair: 2 repaired" in done.err
    assert (store / tree.names[1]).read_bytes() == tree.contents[tree.names[1]]
    assert (store / tree.names[2]).read_bytes() != tree.contents[tree.names[2]]
    assert scrubbed(store) == before
    again = repair(store=store)
    assert (again.code, again.out) == (0, "")
    assert "to repair: nothing" in again.err


def test_a_source_that_serves_wrong_bytes_is_told_and_noted(mirror: Mirror, tmp_path: Path) -> None:
    liar, honest = mirror.serves(b"right", name="a"), mirror.serves(b"right", name="b")
    spec = {
        "path": "a",
        "sources": [{"url": liar.url}, {"url": honest.url, "priority": 1}],
        "digests": {"sha256": hashlib.sha256(b"right").hexdigest()},
    }
    done = run("sync", "-", "--into", "store", cwd=tmp_path, said=json.dumps(spec) + "\n")
    assert done.code == 0, done.err
    store = tmp_path / "store"
    mirror.serves(b"wrong", at=liar.path)
    (store / "a").unlink()
    verify(store=store)
    mended = repair("--json", store=store)
    assert mended.code == 0, mended.err
    one, summary = mended.objects
    assert (one["state"], one["was"], one["source"]) == ("repaired", "missing", honest.url)
    assert one["wrong_bytes_from"] == [liar.url]
    assert summary["wrong_bytes_from"] == {mirror.base: 1}
    assert f"{mirror.base} served wrong bytes, 1 time;" in mended.err
    (failing,) = run("sources", "list", "--failing", "--json", "--into", store, cwd=tmp_path).objects
    assert (failing["url"], failing["last_error"]) == (liar.url, "DigestMismatch")


def test_a_folder_that_the_records_do_not_know_is_not_repaired(store: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    done = run("repair", "--into", "other", "--db", f"sqlite:///{store}/.geofetch/units.db", cwd=tmp_path)
    assert done.code == 2
    assert "these records know no such file in other" in done.err


def test_a_folder_that_is_empty_is_not_taken_for_a_thousand_missing_files(tree: Tree, tmp_path: Path) -> None:
    into = ("--into", "store", "--db", "sqlite:///units.db")
    assert run("sync", tree.sums_url, *into, cwd=tmp_path).code == 0
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").mkdir()  # what a disk is mounted at is there without it, too
    for command in (("verify",), ("verify", "--repair"), ("repair",)):
        done = run(*command, *into, cwd=tmp_path)
        assert done.code == 12, done.err
        assert "store is empty; is its disk mounted? If all of it is gone, make the folder .geofetch in it" in done.err
    assert list((tmp_path / "store").iterdir()) == []
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        assert recorder.count(state="present") == 30
    (tmp_path / "store" / ".geofetch").mkdir()
    assert run("verify", "--repair", *into, cwd=tmp_path).code == 0
    assert {one.name for one in (tmp_path / "store").iterdir()} - {".geofetch"} == set(tree.names)


def test_records_that_know_nothing_of_a_folder_verify_nothing(store: Path, tmp_path: Path) -> None:
    into = ("--into", "store", "--db", "sqlite:///others.db")
    Recorder(f"sqlite:///{tmp_path}/others.db").close()
    with Recorder(f"sqlite:///{tmp_path}/others.db") as recorder:
        assert recorder.count() == 0
    for words in (("verify",), ("verify", "--repair"), ("repair",)):
        done = run(*words, *into, cwd=tmp_path)
        assert done.code == 2, done.err
        assert "nothing was checked: these records know no file in store" in done.err
        assert run(*words, *into[2:], cwd=tmp_path).code == 2
    # Files of the folder that are called otherwise are none that it does not know.
    done = run("verify", "--into", "store", "--path", "nothing*", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "0 files checked" in done.err


def test_a_store_that_cannot_be_reached_leaves_the_others(store: Path, tree: Tree, tmp_path: Path) -> None:
    db = ("--db", "sqlite:///units.db")
    for name in ("a", "b", "c"):
        assert run("sync", tree.sums_url, "--into", name, *db, cwd=tmp_path).code == 0
    assert run("verify", *db, cwd=tmp_path).code == 0
    flipped(tmp_path / "c" / tree.names[0])
    (tmp_path / "b" / tree.names[0]).unlink()
    assert run("verify", "--into", "b", *db, cwd=tmp_path).code == 11
    (tmp_path / "b").rename(tmp_path / "unmounted")
    done = run("verify", *db, "--json", cwd=tmp_path)
    summary = done.objects[-1]
    assert (done.code, summary["exit_code"], summary["ok"]) == (3, 3, False), done.err  # 11 and 12
    assert (summary["checked"], summary["corrupt"], summary["unchecked"], summary["passed_over"]) == (60, 1, 30, 0)
    (away,) = summary["unreached"]
    assert (away["store"], away["files"], away["error"]["type"]) == (f"file://{tmp_path}/b", 30, "StoreError")
    done = run("repair", *db, "--json", cwd=tmp_path)
    summary = done.objects[-1]
    assert (done.code, summary["repaired"], summary["unchecked"]) == (12, 1, 1), done.err
    assert (tmp_path / "c" / tree.names[0]).read_bytes() == tree.contents[tree.names[0]]
    done = run("verify", *db, cwd=tmp_path)
    assert done.code == 12
    assert done.err.count("b is not there; is its disk mounted?") == 1
    assert "60 files checked: 60 present" in done.err
    assert "; 30 not checked, in stores that could not be reached" in done.err
    assert run("verify", "--repair", *db, cwd=tmp_path).code == 12
    assert run("verify", "--into", "b", *db, cwd=tmp_path).code == 12
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        assert (recorder.count(state="present"), recorder.count(state="missing")) == (89, 1)


def test_a_name_that_nobody_knows_is_a_wrong_usage(store: Path, tree: Tree, tmp_path: Path) -> None:
    there = "no repository is called 'mian' in these records; there are main (geofetch repositories list)"
    for words in (
        ("verify", "--repository", "mian"),
        ("repair", "--repository", "mian"),
        ("units", "list", "--repository", "mian"),
        ("units", "export", "--repository", "mian"),
        ("sources", "list", "--repository", "mian"),
        ("repositories", "show", "mian"),
        ("repositories", "diff", "main", "mian"),
    ):
        done = run(*words, "--into", "store", cwd=tmp_path)
        assert (done.code, done.out) == (2, ""), words
        assert there in done.err
    db = ("--db", "sqlite:///units.db")
    for name in ("a", "b"):
        assert run("sync", tree.sums_url, "--into", name, *db, cwd=tmp_path).code == 0
    for words in (("units", "show", tree.names[0]), ("sources", "test", "--unit", tree.names[0])):
        done = run(*words, *db, cwd=tmp_path)
        assert (done.code, done.out) == (2, ""), done.err
        assert f"2 units go by '{tree.names[0]}'; ask for one by its id: 1, 31" in done.err
    for words in (("units", "show", "nope"), ("sources", "list", "--unit", "nope")):
        done = run(*words, *db, cwd=tmp_path)
        assert (done.code, done.out) == (2, "")
        assert "no unit goes by 'nope'" in done.err


# -------------------------------------------------------------------------------------------------------------- sources


def sources(*arguments: str, cwd: Path) -> Done:
    return run("sources", *arguments, "--into", "store", cwd=cwd)


def test_sources_are_listed_with_how_they_did(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.serves(b"x", name="a").url + "?token=canary&n=1"
    assert run("get", url, "--into", "store", "-o", "a", cwd=tmp_path).code == 0
    (one,) = sources("list", "--json", cwd=tmp_path).objects
    assert (one["path"], one["priority"], one["weight"], one["profile"], one["failures"]) == ("a", 0, 1, None, 0)
    assert time.time() - one["last_ok_at"] / 1e6 < 3600
    assert one["origin"] == mirror.base
    table = sources("list", "--unit", "a", cwd=tmp_path).out
    assert table.split("\t")[0] == "0"
    assert "canary" not in table + json.dumps(one)
    assert sources("list", "--failing", cwd=tmp_path).out == ""
    unknown = sources("list", "--unit", "nobody", cwd=tmp_path)
    assert unknown.code == 2
    assert "no unit goes by 'nobody'" in unknown.err


def test_one_source_of_each_origin_is_asked_and_no_file_is_fetched(
    store: Path, tree: Tree, mirror: Mirror, tmp_path: Path
) -> None:
    hits = sum(tree.hits.values())
    done = sources("test", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    one, summary = done.objects
    assert (one["ok"], one["status"], one["size_bytes"]) == (True, 200, SIZE)
    assert (summary["asked"], summary["answered"]) == (1, 1)
    assert mirror.requests[-1].method == "HEAD"
    assert sum(tree.hits.values()) == hits + 1
    assert sources("test", "--json", "--per-origin", "7", cwd=tmp_path).objects[-1]["asked"] == 7


@pytest.mark.parametrize("note", [False, True], ids=["told", "noted"])
def test_a_source_that_does_not_answer_is_told_and_noted_where_that_is_asked(
    note: bool, mirror: Mirror, tmp_path: Path
) -> None:
    source = mirror.serves(b"x", name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    mirror.serves(status=404, at=source.path)
    flags = ("--note",) if note else ()
    done = sources("test", "--json", *flags, cwd=tmp_path)
    assert done.code == 7
    one, summary = done.objects
    assert (one["ok"], one["status"], one["error"]["type"]) == (False, 404, "NotFound")
    assert (summary["ok"], summary["exit_code"], summary["failed"]) == (False, 7, 1)
    assert [request.method for request in source.requests[-2:]] == ["HEAD", "GET"]
    assert len(sources("list", "--failing", "--json", cwd=tmp_path).objects) == note

    mirror.serves(b"x", at=source.path)
    assert sources("test", *flags, cwd=tmp_path).code == 0
    (known,) = sources("list", "--json", cwd=tmp_path).objects
    assert known["failures"] == 0
    assert (known["last_failed_at"] is not None) == note


def test_a_redirect_whose_body_has_no_end_is_followed_unread(mirror: Mirror) -> None:
    there = mirror.serves(b"x" * 7, name="b", status=200)
    away = mirror.redirects(there, name="a", body=b"x" * 65536, endless=True, announce=None)
    # To a HEAD it says that it knows none: then the one with the body is asked.
    refusing = mirror.plays([Scene(status=405), Scene(status=302, headers={"Location": away.url})], name="c")
    for source in (Source(away.url), Source(refusing.url)):
        unit = Unit("file", {"name": "a"}, "a", "memory:", "a", 7, sources=(source,))
        (answer,) = ask([(unit, source)], timeout_s=20)
        assert (answer.ok, answer.size) == (True, 7), answer.error
        assert answer.elapsed_s < 10


def test_a_profile_that_is_not_for_a_source_is_not_told_to_it_and_it_is_asked_all_the_same(mirror: Mirror) -> None:
    file = mirror.serves(b"x" * 7)
    unit = Unit("file", {"name": "a"}, "a", "memory:", "a", 7, sources=(Source(file.url),))
    elsewhere = Session(Profile(name="a", token="canary", origins=("https://mirror.example",)))
    (answer,) = ask([(unit, unit.sources[0])], session=elsewhere)
    assert answer.ok, answer.error
    assert file.request.header("Authorization") is None


def test_a_source_that_offers_another_size_does_not_have_the_file(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(b"x", name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    mirror.serves(b"xx", at=source.path)
    done = sources("test", cwd=tmp_path)
    assert done.code == 11
    assert "it offers 2 bytes, 1 are recorded" in done.err
    assert done.out.startswith("SizeMismatch (200)\t2\t")


def test_a_source_that_is_gone_is_told_by_its_code(mirror: Mirror, origins: Origins, tmp_path: Path) -> None:
    source = mirror.serves(b"x", name="a")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    with Recorder(f"sqlite:///{tmp_path}/store/.geofetch/units.db") as recorder:
        (unit,) = recorder.units()
        gone = Source(f"{origins.refusing().base}/a?n=canary")
        recorder.put_unit(replace(unit, sources=(gone,), health=())).get()
    done = sources("test", "--json", cwd=tmp_path)
    assert done.code == 4
    assert done.objects[0]["error"]["type"] == "Unreachable"
    assert "canary" not in done.out + done.err


# --------------------------------------------------------------------------------------------------------- repositories


def test_repositories_are_listed_shown_and_compared(mirror: Mirror, tmp_path: Path) -> None:
    urls = {name: mirror.serves(name.encode() * 3, name=name).url for name in ("a", "b", "c")}
    for repository, names in (("one", "ab"), ("two", "bc")):
        given = [urls[name] for name in names]
        assert run("get", *given, "--into", "store", "--repository", repository, cwd=tmp_path).code == 0

    def asked(*arguments: str) -> Done:
        return run("repositories", *arguments, "--into", "store", cwd=tmp_path)

    assert asked("list").out == "one\t2\t6\t0\t0\ntwo\t2\t6\t0\t0\n"
    (tmp_path / "store" / "a").unlink()
    assert run("verify", "--into", "store", cwd=tmp_path).code == 11
    assert asked("show", "one").out == "units\t2\nbytes\t6\nmissing\t1\npresent\t1\n"
    assert asked("list", "--json").objects[0] == {
        "name": "one",
        "units": 2,
        "bytes": 6,
        "states": {"missing": 1, "present": 1},
        "not_fetched": 0,
    }
    assert [(one["change"], one["path"]) for one in asked("diff", "one", "two", "--json").objects] == [
        ("added", "c"),
        ("removed", "a"),
    ]
    assert [line.split("\t")[:2] for line in asked("diff", "two", "one").out.splitlines()] == [["+", "a"], ["-", "c"]]
    assert asked("diff", "one", "one").out == ""
    for unknown in (asked("show", "three"), asked("diff", "one", "three")):
        assert unknown.code == 2
        assert "no repository is called 'three' in these records; there are one, two" in unknown.err


def test_the_same_path_in_two_stores_differs_by_its_bytes_alone(mirror: Mirror, tmp_path: Path) -> None:
    db = ("--db", "sqlite:///units.db")
    source, same = mirror.serves(b"old", name="a"), mirror.serves(b"same", name="b")
    for folder in ("one", "two"):
        done = run("get", source.url, same.url, "-d", folder, "--repository", folder, *db, cwd=tmp_path)
        assert done.code == 0, done.err
        mirror.serves(b"new", at=source.path)
    (changed,) = run("repositories", "diff", "one", "two", "--json", *db, cwd=tmp_path).objects
    assert (changed["path"], changed["change"]) == ("a", "changed")
    assert changed["before"]["digests"] != changed["after"]["digests"]


@pytest.mark.parametrize("command", ["units gc", "repair", "repositories list"])
def test_help_names_the_columns_of_a_piped_table(command: str) -> None:
    from geofetch.cli import gc, mending, repositories

    columns = {
        "units gc": ("what", *gc.BECAME, "bytes"),
        "repair": mending.Mended.columns(),
        "repositories list": repositories.COLUMNS,
    }
    done = run(*command.split(), "--help", cwd=ROOT)
    assert f"parted by TABs: {', '.join(columns[command])}." in " ".join(done.out.split())
