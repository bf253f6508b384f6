"""Row E13 of the fault matrix: SIGKILL, at every point of a small sync and at random instants of a large one.

After each kill there is nothing but whole files under final names, and no record of a file that is not whole; the run
after it completes, removes what the dead one left, and fetches nothing again that was published.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.support.apart import commanded, environment
from tests.support.mirrors import Mirror, Origins, Tree
from tests.support.plain import heard
from tests.support.process import ROOT
from tests.support.recorded import recorded
from tests.support.waiting import until

#: Where the dice of the random kills begin; the same seed kills at about the same instants.
SEED = int(os.environ.get("GEOFETCH_KILL_SEED") or random.SystemRandom().randrange(1 << 32))


# -----------------------------------------------------------------------------------------------what holds after a kill


def whole_files(root: Path, contents: dict[str, bytes]) -> set[str]:
    """The paths whose file is published under ``root``, each of them whole; nothing else has a final name."""
    by_digest = {hashlib.sha256(body).hexdigest(): name for name, body in contents.items()}
    published = set()
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.name.startswith(".part-") or name.startswith(".geofetch") or path.is_dir():
            continue
        if name.startswith("sha256/"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert name == f"sha256/{digest[:2]}/{digest}"
            published.add(by_digest[digest])
        else:
            assert path.read_bytes() == contents[name], f"{name} is not whole"
            published.add(name)
    return published


def whole_records(root: Path, contents: dict[str, bytes]) -> set[str]:
    """The paths that are recorded, the file of each whole."""
    found = recorded(root)
    for path, unit in found.items():
        body = (root / unit.key).read_bytes()
        assert body == contents[path]
        assert (unit.size, unit.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    return set(found)


def left_by_the_dead(root: Path) -> list[str]:
    """Parts, and markers of who is at work."""
    return [str(path.relative_to(root)) for kind in (".part-*", "running-*") for path in root.rglob(kind)]


# ------------------------------------------------------------------------------------------------------ at every point


class Killer:
    """Syncs in processes that are killed where they are told; see tests/support/killing.py."""

    def __init__(self, how: dict[str, Any], before: Sequence[str] = ()) -> None:
        self._how = how
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.support.killing"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, root: Path, point: tuple[str, int] = ("", 0), after: bool = False, **more: Any) -> None:
        assert self._process.stdin is not None
        order = {"root": str(root), "strike": point, "after": after, **self._how, **more}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ended(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def sync(self, root: Path, **more: Any) -> dict[str, Any]:
        """A sync that nobody kills."""
        self.begin(root, **more)
        return self.ended()

    def end(self) -> None:
        self._process.communicate(timeout=10)
        assert self._process.returncode == 0


LAYOUTS = [
    pytest.param({"layout": "path", "links": True, "durable": False}, id="E13-by-path"),
    pytest.param({"layout": "path", "links": True, "durable": True}, id="E13-by-path-durable"),
    pytest.param({"layout": "digest", "links": True, "durable": False}, id="E13-by-digest"),
    pytest.param({"layout": "digest", "links": "hardlink", "durable": True}, id="E13-by-digest-durable"),
]


@pytest.fixture
def small(mirror: Mirror) -> Tree:
    return mirror.tree(5, (500, 3_000))


@pytest.fixture
def killers(small: Tree, how: dict[str, Any]) -> Iterator[tuple[Killer, Killer]]:
    """Two at once, since one of them waits for the disk most of the time."""
    specs = [{"source": small.base + n, "path": p, "digests": f"sha256:{small.digests[n]}"} for p, n in paths(small)]
    both = Killer({**how, "specs": specs}), Killer({**how, "specs": specs})
    yield both
    for one in both:
        one.end()


def paths(tree: Tree) -> list[tuple[str, str]]:
    """Where each file of a tree goes: into two folders, and not into them."""
    return [(f"{('', 'd/', 'd/e/')[number % 3]}{name}", name) for number, name in enumerate(tree.names)]


def _prepared(found: str, root: Path, killer: Killer) -> Path:
    """What a run finds: nothing; what a killed one left; a store whose records were lost."""
    root.mkdir()
    if found == "after-a-crash":
        killer.begin(root, ("rename", 3))
        assert killer.ended()["killed"]
        assert {Path(name).name[:5] for name in left_by_the_dead(root)} == {".part", "runni"}
    if found == "records-lost":
        assert not killer.sync(root)["killed"]
        shutil.rmtree(root / ".geofetch")
    return root


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "after", "found"),
    [
        *(pytest.param(*one.values, False, "nothing", id=one.id) for one in LAYOUTS),
        # After one call is before the next one, but for what SQLite does in between.
        pytest.param(*LAYOUTS[0].values, True, "nothing", id="E13-after-each-call"),
        pytest.param(*LAYOUTS[0].values, False, "after-a-crash", id="E13-again-after-a-kill"),
        pytest.param(*LAYOUTS[2].values, False, "records-lost", id="E13-while-adopting"),
    ],
)
def test_a_kill_at_any_point_leaves_whole_files_and_the_next_run_completes(
    mirror: Mirror, small: Tree, killers: tuple[Killer, Killer], tmp_path: Path, after: bool, found: str
) -> None:
    base = _prepared(found, tmp_path / "base", killers[0])
    done = killers[0].sync(shutil.copytree(base, tmp_path / "whole", symlinks=True))["done"]
    points = [(name, number) for name, most in done.items() for number in range(1, most + 1)]
    assert {"mkdir", "open", "connect", "begin", "commit", "close"} <= done.keys()
    assert found == "records-lost" or {"write", "rename", "unlink"} <= done.keys()
    assert len(points) >= 10
    struck: set[str] = set()
    for at in range(0, len(points), 2):
        killed = [
            Killed(one, point, after, base, tmp_path / f"{point[0]}{point[1]}", small)
            for one, point in zip(killers, points[at : at + 2], strict=False)
        ]
        struck |= {one.point[0] for one in killed if one.struck()}
        for one in killed:
            one.holds_whole_files()
        settled(mirror)
        hits = small.hits
        for one in killed:
            one.begin_again()
        for one in killed:
            one.is_complete()
        more = small.hits
        asked = {name: more.get(name, 0) - hits.get(name, 0) for name in small.names}
        assert asked == {name: sum(path not in one.there for one in killed) for path, name in paths(small)}
    # Of how many calls there are the last ones may be missing: two records that come at once share a transaction.
    assert struck == done.keys()


class Killed:
    """One run that is killed at a point, and the run after it."""

    def __init__(self, killer: Killer, point: tuple[str, int], after: bool, base: Path, root: Path, tree: Tree) -> None:
        self.point = point
        self._killer, self._contents = killer, {path: tree.contents[name] for path, name in paths(tree)}
        self._root = Path(shutil.copytree(base, root, symlinks=True))
        killer.begin(root, point, after)

    def struck(self) -> bool:
        return bool(self._killer.ended()["killed"])

    def holds_whole_files(self) -> None:
        self.there = whole_files(self._root, self._contents)
        assert whole_records(self._root, self._contents) <= self.there, self.point

    def begin_again(self) -> None:
        self._killer.begin(self._root)

    def is_complete(self) -> None:
        states = {one["path"]: one["state"] for one in self._killer.ended()["outcomes"]}
        assert states == {path: "adopted" if path in self.there else "stored" for path in self._contents}, self.point
        assert {path: (self._root / path).read_bytes() for path in self._contents} == self._contents
        assert whole_records(self._root, self._contents) == set(self._contents), self.point
        assert left_by_the_dead(self._root) == [], self.point
        shutil.rmtree(self._root)


# ------------------------------------------------------------------------------------------------ at random instants

FILES, KILLS = 2_000, 15


@pytest.mark.timeout(600)
def test_large_syncs_that_are_killed_thirty_times_end_complete(origins: Origins, tmp_path: Path) -> None:
    """Acceptance 5: the command, killed by ``kill -9`` and begun again, until it comes to its end.

    Two syncs side by side, fifteen kills each: most of a round is the start of an interpreter, and there are two cores.
    """
    print(f"GEOFETCH_KILL_SEED={SEED}")
    ways = (["--layout", "path"], ["--layout", "digest"])
    rounds = [Rounds(origins.http(), tmp_path / way[1], way, random.Random(SEED + n)) for n, way in enumerate(ways)]
    gevent.joinall([gevent.spawn(one.all) for one in rounds], raise_error=True)


class Rounds:
    """One sync of so many files, killed so many times."""

    def __init__(self, mirror: Mirror, folder: Path, flags: list[str], dice: random.Random) -> None:
        self._mirror, self._tree, self._dice = mirror, mirror.tree(FILES, (100, 4_000), folder.name), dice
        folder.mkdir()
        (folder / "SHA256SUMS").write_text(self._tree.sums)
        self._root = folder / "store"
        places = ["--base", self._tree.base, "--into", self._root]
        self._words = ["sync", folder / "SHA256SUMS", *places, *flags, "-q", "--no-progress"]
        self._there: set[str] = set()

    def all(self) -> None:
        """Every round, and the last one, which comes to its end."""
        grown = [self._round(kills_left) for kills_left in range(KILLS, 0, -1)]
        self._round(0)
        assert self._there == whole_records(self._root, self._tree.contents) == set(self._tree.names)
        assert left_by_the_dead(self._root) == []
        # Kills struck in the middle of the work, and not only before it and after it: two of fifteen at least, since a
        # machine that comes late with a kill may find all files fetched in a few rounds.
        assert sum(more > 0 for more in grown) >= 2

    def _round(self, kills_left: int) -> int:
        """One run, killed unless no kill is left; by how many files it came further."""
        settled(self._mirror)
        hits, there = self._tree.hits, self._there
        with commanded(self._words, stdout=subprocess.DEVNULL) as process:
            if kills_left:
                self._kill(process, kills_left)
            until(lambda: process.poll() is not None, 120, "the end of the command")
            assert (process.returncode, process.communicate()[1]) in [(0, ""), (-signal.SIGKILL, "")]
            assert kills_left or process.returncode == 0
        self._there = whole_files(self._root, self._tree.contents) if self._root.exists() else set()
        assert there <= self._there
        assert whole_records(self._root, self._tree.contents) <= self._there
        settled(self._mirror)
        more = self._tree.hits
        assert [name for name in there if more[name] != hits[name]] == []
        return len(self._there - there)

    def _kill(self, process: subprocess.Popen[str], kills_left: int) -> None:
        """Kill it when it has asked for so many files, and a moment later; or while it starts, or adopts."""
        even_share = (FILES - len(self._there)) // kills_left
        wanted = self._dice.choice([0, *(self._dice.randint(0, 2 * even_share) for _ in range(4))])
        goal = self._mirror.hits + wanted
        if wanted:
            until(lambda: self._mirror.hits >= goal or process.poll() is not None, 60, "the files of this round")
        gevent.sleep(self._dice.uniform(0, 0.05 if wanted else 1.5))  # waits for nobody: the kill is to be random
        process.send_signal(signal.SIGKILL)


def settled(mirror: Mirror) -> None:
    """Wait until the origin has heard all that dead clients said: it takes connections in the order of their coming."""
    heard(mirror.serves(b"one more"))
    mirror.left()
