"""Row E13 of the fault matrix: SIGKILL, at every point of a small sync and at random instants of a large one.

After each kill there is nothing but whole files under final names, and no record of a file that is not whole; the run
after it completes, removes what the dead one left, and fetches nothing again that was published.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.apart import commanded, environment
from tests.support.mirrors import Mirror, Tree
from tests.support.plain import heard
from tests.support.process import ROOT
from tests.support.recorded import recorded
from tests.support.waiting import until

#: Where the dice of the random kills begin; the same seed kills at about the same instants.
SEED = int(os.environ.get("GEOFETCH_KILL_SEED") or random.SystemRandom().randrange(1 << 32))


# ------------------------------------------------------------------------------------------------ what holds after a kill


def whole_files(root: Path, contents: dict[str, bytes]) -> set[str]:
    """The paths whose file is published under ``root``, each of them whole; nothing else has a final name."""
    published = set()
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.name.startswith(".part-") or name.startswith(".geofetch") or path.is_dir():
            continue
        if name.startswith("sha256/"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert name == f"sha256/{digest[:2]}/{digest}"
            published |= {one for one, body in contents.items() if hashlib.sha256(body).hexdigest() == digest}
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

    def __init__(self, how: dict[str, Any]) -> None:
        self._how = how
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killing"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, root: Path, strike: int | None = None, after: bool = False) -> None:
        assert self._process.stdin is not None
        order = {"root": str(root), "strike": strike, "after": after, **self._how}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ended(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def sync(self, root: Path) -> dict[str, Any]:
        """A sync that nobody kills."""
        self.begin(root)
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


def _prepared(kind: str, root: Path, killer: Killer) -> None:
    """What the run that is killed finds: nothing; what a killed one left; a store whose records were lost."""
    if kind == "after-a-crash":
        killer.begin(root, 18)
        assert killer.ended()["killed_at"] is not None
        assert left_by_the_dead(root)
    if kind == "records-lost":
        assert killer.sync(root)["killed_at"] is None
        shutil.rmtree(root / ".geofetch")


@pytest.mark.parametrize(
    ("how", "found"),
    [
        *(pytest.param(*one.values, "nothing", id=one.id) for one in LAYOUTS),
        pytest.param(*LAYOUTS[0].values, "after-a-crash", id="E13-again-after-a-kill"),
        pytest.param(*LAYOUTS[2].values, "records-lost", id="E13-while-adopting"),
    ],
)
def test_a_kill_at_any_point_leaves_whole_files_and_the_next_run_completes(
    mirror: Mirror, small: Tree, killers: tuple[Killer, Killer], tmp_path: Path, found: str
) -> None:
    contents = {path: small.contents[name] for path, name in paths(small)}
    names = dict(paths(small))
    base = tmp_path / "base"
    base.mkdir()
    _prepared(found, base, killers[0])
    struck: list[str] = []
    for strike in count(1):
        roots = [Path(shutil.copytree(base, tmp_path / f"{when}{strike}", symlinks=True)) for when in ("b", "a")]
        for killer, root, after in zip(killers, roots, (False, True), strict=True):
            killer.begin(root, strike, after)
        answers = [killer.ended() for killer in killers]
        struck += [answer["killed_at"] for answer in answers if answer["killed_at"]]
        published = [whole_files(root, contents) for root in roots]
        for root, there in zip(roots, published, strict=True):
            assert whole_records(root, contents) <= there
        settled(mirror)
        before = small.hits
        for killer, root in zip(killers, roots, strict=True):
            killer.begin(root)
        after_it = [killer.ended() for killer in killers]
        asked = {path: small.hits.get(names[path], 0) - before.get(names[path], 0) for path in contents}
        assert asked == {path: sum(path not in there for there in published) for path in contents}
        for root, there, answer in zip(roots, published, after_it, strict=True):
            states = {one["path"]: one["state"] for one in answer["outcomes"]}
            assert states == {path: "adopted" if path in there else "stored" for path in contents}
            assert whole_files(root, contents) == whole_records(root, contents) == set(contents)
            assert {path: (root / path).read_bytes() for path in contents} == contents
            assert left_by_the_dead(root) == []
            shutil.rmtree(root)
        if not any(answer["killed_at"] for answer in answers):
            break
    print(f"struck {len(struck)} times: {sorted(set(struck))}")
    assert strike > 12
    expected = {"open", "write", "rename", "mkdir", "unlink", "connect", "begin", "commit", "close"}
    if found == "nothing":
        assert expected <= set(struck)


# ------------------------------------------------------------------------------------------------ at random instants

FILES, KILLS = 2_000, 30


@pytest.mark.timeout(300)
def test_a_large_sync_that_is_killed_thirty_times_ends_complete(mirror: Mirror, tmp_path: Path) -> None:
    """Acceptance 5: the command, killed by ``kill -9`` and begun again, until it comes to its end."""
    print(f"GEOFETCH_KILL_SEED={SEED}")
    dice, root = random.Random(SEED), tmp_path / "store"
    tree = mirror.tree(FILES, (100, 4_000))
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    words = ["sync", tmp_path / "SHA256SUMS", "--base", tree.base, "--into", root, "-q", "--no-progress"]
    fractions = sorted(dice.random() for _ in range(KILLS))
    there: set[str] = set()
    interrupted = 0
    for fraction in [*fractions, None]:
        settled(mirror)
        hits = tree.hits
        with commanded(words, stdout=subprocess.DEVNULL) as process:
            killed = fraction is not None and _struck(process, mirror, len(there), fraction, dice)
            _, err = process.communicate(timeout=120)
        if not killed:
            assert (process.returncode, err) == (0, "")
        now = whole_files(root, tree.contents) if root.exists() else set()
        assert there <= now
        assert whole_records(root, tree.contents) <= now
        # What was published when this run began was not asked for again.
        settled(mirror)
        more = tree.hits
        assert [name for name in there if more[name] != hits[name]] == []
        interrupted += killed and len(now - there) > 0
        there = now
    assert there == whole_records(root, tree.contents) == set(tree.names)
    assert left_by_the_dead(root) == []
    assert interrupted > 10
    # Twice asked for is only what was on its way when a kill struck.
    assert sum(tree.hits[name] - 1 for name in tree.names) <= KILLS * 4 * 32


def _struck(process: subprocess.Popen[str], mirror: Mirror, there: int, fraction: float, dice: random.Random) -> bool:
    """Kill it when so much of the whole is there, or a moment later; False if it came to its end before."""
    wanted = round(fraction * FILES) - there
    moment_s = dice.uniform(0, 0.05)
    if wanted <= 0:  # a kill left more than it should have: this one strikes while the command starts, or adopts
        moment_s = dice.uniform(0, 1.5)
    else:
        goal = mirror.hits + wanted
        until(lambda: mirror.hits >= goal or process.poll() is not None, 60, "the files of this round asked for")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment_s)
    process.send_signal(signal.SIGKILL)
    return process.wait(30) == -signal.SIGKILL


def settled(mirror: Mirror) -> None:
    """Wait until the origin has heard all that dead clients said: it serves connections in the order of their coming."""
    heard(mirror.serves(b"one more"))
    mirror.left()
