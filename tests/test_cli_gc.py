"""``geofetch units gc``: what it tells, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from geofetch import Recorder

from .support.mirrors import Mirror, Tree
from .support.waiting import until
from .test_cli import Done, run, started


@pytest.fixture
def tree(mirror: Mirror) -> Tree:
    return mirror.tree(12, (100, 500))


@pytest.fixture(params=["path", "digest"])
def store(request: pytest.FixtureRequest, tree: Tree, tmp_path: Path) -> Path:
    """A folder that was synced, and then once more without its last four files."""
    for sums in (tree.sums, "".join(tree.sums.splitlines(keepends=True)[:-4])):
        (tmp_path / "SHA256SUMS").write_text(sums)
        words = ["sync", "SHA256SUMS", "--base", tree.base, "--into", "store", "--layout", request.param]
        assert run(*words, "--repository", "main", "--mirror", cwd=tmp_path).code == 0
    return tmp_path / "store"


def gc(store: Path, *arguments: str) -> Done:
    return run("units", "gc", "--into", store, *arguments, cwd=store.parent)


def over(tree: Tree) -> list[str]:
    """The files that are listed no more, in order."""
    return [line.split()[1] for line in tree.sums.splitlines()[-4:]]


def there(store: Path, tree: Tree) -> set[str]:
    return {name for name in tree.names if (store / name).exists()}


def test_it_removes_what_is_over_and_says_so(store: Path, tree: Tree) -> None:
    waiting = gc(store)
    assert (waiting.code, waiting.out) == (0, "")
    assert "0 units forgotten, 0 files removed" in waiting.err
    dry = gc(store, "--grace", "0s", "--dry-run")
    assert dry.code == 0
    assert "4 units would be forgotten, 4 files would be removed" in dry.err
    assert there(store, tree) == set(tree.names)
    done = gc(store, "--grace", "0s")
    assert done.code == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    size = sum(len(tree.contents[name]) for name in over(tree))
    links = [["link", "4", "0", "0", "0", "0", "0", "0"]] if (store / "sha256").exists() else []
    assert rows == [
        ["unit", "4", "0", "0", "0", "0", "0", "0"],
        ["leftover", "4", "0", "0", "0", "0", "0", str(size)],
        *links,
    ]
    assert there(store, tree) == set(tree.names) - set(over(tree))
    assert run("verify", "--into", store, cwd=store.parent).code == 0


def test_it_says_the_same_in_json(store: Path, tree: Tree) -> None:
    done = gc(store, "--grace", "0s", "--json")
    *each, summary = done.objects
    forgotten = [one for one in each if one["what"] == "unit"]
    assert sorted(one["unit"]["path"] for one in forgotten) == sorted(over(tree))
    assert {(one["event"], one["state"], one["error"]) for one in each} == {("collected", "removed", None)}
    assert (summary["command"], summary["ok"], summary["units"], summary["failed"]) == ("units gc", True, 4, 0)
    assert summary["freed_bytes"] == sum(len(tree.contents[name]) for name in over(tree))


def test_a_stranger_of_the_folder_goes_by_strays_alone(store: Path, tree: Tree) -> None:
    stray = store / "sha256" / "00" / "theirs" if (store / "sha256").exists() else store / "theirs"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"not in any record")
    os.utime(stray, (1, 1))
    assert gc(store, "--grace", "0s").code == 0
    assert stray.exists()
    assert gc(store, "--strays", "--dry-run", "--json").objects[-1]["strays"] == 1
    assert stray.exists()
    done = gc(store, "--strays", "--json").objects[-1]
    assert (done["strays"], done["freed_bytes"], stray.exists()) == (1, 17, False)


def test_records_of_another_place_make_no_strays_of_all_that_is_there(store: Path, tree: Tree, tmp_path: Path) -> None:
    before = sorted(store.rglob("*"))
    with Recorder(other := f"sqlite:///{tmp_path}/other.db") as recorder:
        assert recorder.count() == 0
    done = gc(store, "--strays", "--grace", "0s", "--db", other)
    assert done.code == 2
    assert "these records know no file of" in done.err
    assert sorted(store.rglob("*")) == before


def test_a_file_that_cannot_be_removed_ends_it_with_its_code(store: Path, tree: Tree) -> None:
    if os.geteuid() == 0:
        # Root may remove anything; but not what is no file any more.
        (name, *_) = over(tree)
        path = (store / name).resolve()
        path.unlink()
        path.mkdir()
        done = gc(store, "--grace", "0s", "--json")
        assert (done.code, done.objects[-1]["replaced"], path.is_dir()) == (0, 1, True)
        return
    folder = store / "sha256" if (store / "sha256").exists() else store
    folder.chmod(0o555)
    try:
        done = gc(store, "--grace", "0s", "--json")
    finally:
        folder.chmod(0o755)
    assert (done.code, done.objects[-1]["failed"]) == (12, 4)
    assert gc(store, "--grace", "0s").code == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--grace", "soon"), "a time from 0"),
        (("--grace", "-1s"), "a time from 0"),
        (("--grace", "7"), "7 of what? say 7d, 7h or 7s"),
        (("--grace", "1.5"), "1.5 of what? say 1.5d"),
        (("--threads", "0"), "--threads"),
        (("--into", "nowhere"), "no records in nowhere"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_a_wrong_usage_is_told(flags: Any, words: str, tmp_path: Path) -> None:
    done = run("units", "gc", *flags, cwd=tmp_path)
    assert done.code == 2
    assert words in done.err


@pytest.mark.parametrize(
    "words",
    [("units", "gc", "--grace", "0"), ("verify", "--older-than", "2w"), ("repair", "--timeout", "5")],
    ids=" ".join,
)
def test_no_time_at_all_needs_no_unit_and_a_timeout_is_seconds(words: Any, tmp_path: Path) -> None:
    assert "no records in nowhere" in run(*words, "--into", "nowhere", cwd=tmp_path).err


def test_a_verify_wants_a_unit_too(tmp_path: Path) -> None:
    done = run("verify", "--older-than", "30", "--into", "nowhere", cwd=tmp_path)
    assert done.code == 2
    assert "30 of what? say 30d, 30h or 30s" in done.err
    for words in (("verify",), ("units", "gc")):
        assert "12h" in run(*words, "--help", cwd=tmp_path).out


def test_show_tells_who_shares_a_file(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"the same").hexdigest()
    for name in "abc":
        (tmp_path / name).write_bytes(b"the same")
    (tmp_path / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name in "abc"))
    words = ("--base", f"file://{tmp_path}", "--into", "srv", "--layout", "digest", "-q")
    assert run("sync", "SHA256SUMS", *words, cwd=tmp_path).code == 0
    first, *others = run("units", "list", "--into", "srv", "--json", cwd=tmp_path).objects
    assert len(others) == 2
    shown = run("units", "show", str(first["id"]), "--into", "srv", cwd=tmp_path)
    assert json.loads(shown.out)["shared_with"] == 2
    assert "its file is shared with 2 other units" in shown.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_a_signal_ends_it_in_good_order_and_the_next_one_goes_on(number: int, mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(2_000, (10, 20))
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    words = ["sync", "SHA256SUMS", "--base", tree.base, "--into", "store", "--repository", "main", "-q", "--mirror"]
    assert run(*words, cwd=tmp_path).code == 0
    (tmp_path / "SHA256SUMS").write_text(tree.sums.splitlines()[0] + "\n")
    assert run(*words, cwd=tmp_path).code == 0
    store = tmp_path / "store"
    with started("units", "gc", "--into", store, "--grace", "0s", "--threads", "1", cwd=tmp_path) as process:
        until(lambda: len(os.listdir(store)) < 1_900 or process.poll() is not None, 60)
        process.send_signal(number)
        began = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode in (128 + number, 0)  # it may have come to its end
    with Recorder(f"sqlite:///{store}/.geofetch/units.db") as recorder:
        assert {unit.path for unit in recorder.units()} >= {tree.names[0]}
        assert all((store / unit.path).exists() for unit in recorder.units(repository="main"))
    assert gc(store, "--grace", "0s").code == 0
    assert there(store, tree) == {tree.names[0]}
    assert run("verify", "--into", store, cwd=tmp_path).code == 0
