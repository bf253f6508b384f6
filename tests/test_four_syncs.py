"""Four processes sync overlapping lists into one database and one bucket at once, and what they lean on fails.

One of them is killed, PostgreSQL is restarted, the S3 server stands still.  What holds in the end is what a content
service leans on: every list complete, one row a unit, one object a digest, no record without its object, nothing half
left.  GEOFETCH_TEST_FULL makes the lists as long as acceptance 2 of "Units for years" has them: 5,000 files each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from .origin.content import made
from .support.apart import command, commanded
from .support.mirrors import Handle, Mirror
from .support.objects import BUCKET, KEY, SECRET, ObjectServer
from .support.servers import Place, Server
from .support.waiting import until

FULL = bool(os.environ.get("GEOFETCH_TEST_FULL"))
#: Files in each list; the next list begins a quarter further on, so that most files are wanted by several.
LISTED = 5000 if FULL else 300
LISTS = 4
#: Who is killed.
VICTIM = 1
FROZEN_S = 5.0
#: Large enough to be sent in parts.
BLOCK, BLOCKS = made(1 << 20, "large"), 9
LARGE_FILES = 3
PATIENCE_S = 900 if FULL else 90


@pytest.fixture
def place(postgresql: Server) -> Iterator[Place]:
    place = postgresql.place()
    yield place
    place.drop()


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return f"four-{os.urandom(4).hex()}"


class Lists:
    """What there is, and who wants what of it: ``bodies[me]`` are the files of a list by their paths."""

    def __init__(self, mirror: Mirror) -> None:
        self.tree = tree = mirror.tree(LISTED + (LISTS - 1) * LISTED // 4, (100, 2_000))
        self.large = [mirror.serves(BLOCK, times=BLOCKS, name=f"large-{n}") for n in range(LARGE_FILES)]
        #: The killed one's alone: it is on its way, most of it sent, when the kill comes.
        self.waits = mirror.serves(BLOCK[::-1], times=BLOCKS, stall=(BLOCKS << 20) - 1, name="waits")
        self.urls: dict[str, str] = dict(zip(tree.names, tree.urls, strict=True))
        self.bodies: list[dict[str, bytes]] = []
        for me in range(LISTS):
            names = tree.names[me * LISTED // 4 :][:LISTED]
            mine = {name: tree.contents[name] for name in names}
            # The same bytes under several paths, and from several places, for everybody.
            mine |= {f"large-{n}": BLOCK * BLOCKS for n in range(LARGE_FILES)}
            mine[f"same-{me}"] = tree.contents[tree.names[0]]
            self.urls |= {f"large-{n}": handle.url for n, handle in enumerate(self.large)}
            self.urls[f"same-{me}"] = tree.urls[0]
            self.bodies.append(mine)
        self.bodies[VICTIM]["waits"] = BLOCK[::-1] * BLOCKS
        self.urls["waits"] = self.waits.url

    def manifest(self, me: int, folder: Path) -> Path:
        """The list as a file; all have the same order, so that several want the same file at the same moment."""
        path = folder / f"list-{me}.jsonl"
        with path.open("w") as file:
            for name, body in sorted(self.bodies[me].items(), key=lambda one: -len(one[1])):
                digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                told = {"source": self.urls[name], "path": name, "size": len(body), "digests": digest}
                file.write(json.dumps(told) + "\n")
        return path

    @property
    def fetches(self) -> int:
        """How many files were asked for, each as often as it was."""
        handles: list[Handle] = [*self.large, self.waits]
        return sum(self.tree.hits.values()) + sum(handle.hits for handle in handles)


class Sync:
    """One process of the command; what it said so far is in a file."""

    def __init__(self, words: list[object], said: Path) -> None:
        self.said = said
        with said.open("wb") as out:
            self.process = commanded(words, stdout=out)

    @property
    def files(self) -> list[dict[str, Any]]:
        """What it told of each file that has ended."""
        lines = self.said.read_bytes().split(b"\n")[:-1]  # the last may be half
        return [told for told in map(json.loads, lines) if told["event"] == "file"]

    @property
    def count(self) -> int:
        return self.said.read_bytes().count(b"\n")

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> int:
        until(lambda: not self.runs, PATIENCE_S, "the end of a sync")
        assert self.process.stderr is not None
        told = self.process.stderr.read()
        self.process.stderr.close()
        assert "Traceback" not in told, told
        return self.process.returncode

    def complete(self, bodies: dict[str, bytes]) -> None:
        """It ended well, and told of each of its files that it is there."""
        assert self.ended() == 0, [one for one in self.files if not one["ok"]][:5]
        assert sorted(one["path"] for one in self.files) == sorted(bodies)
        assert all(one["ok"] for one in self.files)


def test_four_syncs_of_which_one_is_killed_while_database_and_bucket_fail(
    mirror: Mirror, place: Place, object_server: ObjectServer, prefix: str, tmp_path: Path
) -> None:
    lists, boto = Lists(mirror), object_server.boto()
    into = f"s3+{object_server.endpoint}/{BUCKET}/{prefix}"
    how = [
        "--into",
        into,
        "--db",
        place.url,
        "--layout",
        "digest",
        "--json",
        "-q",
        "--no-progress",
        "-j",
        24 if FULL else 8,
    ]
    words = [["sync", lists.manifest(me, tmp_path), "--repository", f"list-{me}", *how] for me in range(LISTS)]
    began = time.monotonic()
    syncs = [Sync(words[me], tmp_path / f"said-{me}") for me in range(LISTS)]
    try:
        _trouble(syncs, place, object_server, boto, prefix)
        for me, sync in enumerate(syncs):
            if me != VICTIM:
                sync.complete(lists.bodies[me])
        took_s, fetched = time.monotonic() - began, lists.fetches
        lists.waits.release()
        again = Sync(words[VICTIM], tmp_path / "said-again")
        syncs.append(again)
        again.complete(lists.bodies[VICTIM])
    finally:
        for sync in syncs:
            if sync.runs:
                sync.process.kill()
            sync.process.wait()
    bodies = {path: body for mine in lists.bodies for path, body in mine.items()}
    assert len(_uploads(boto, prefix)) == 1  # the killed one's: for all that anybody knows it is sent still
    gc = command(["units", "gc", "--into", into, "--db", place.url, "--grace", "0", "--json"])
    assert gc.returncode == 0, gc.stderr
    told = json.loads(gc.stdout.splitlines()[-1])
    assert (told["swept"], told["units"], told["removed"]) == (1, 0, 0)
    assert _uploads(boto, prefix) == []
    _all_is_there(lists, place, boto, prefix)  # a gc takes nothing of it
    print(
        f"{LISTS} x {LISTED} files in {took_s:.1f} s, {len(bodies)} units; fetched more than once: "
        f"{fetched - len(bodies) + 1}, and {lists.fetches - fetched} by the killed one's second run"
    )


def _trouble(syncs: list[Sync], place: Place, object_server: ObjectServer, boto: Any, prefix: str) -> None:
    """A kill, a restart, a standstill, each in the middle of what all do."""
    victim, others = syncs[VICTIM], [sync for me, sync in enumerate(syncs) if me != VICTIM]

    def so_far(part: float) -> None:
        until(lambda: max(sync.count for sync in others) >= part * LISTED, PATIENCE_S, f"{part} of the files of one")
        assert all(sync.runs for sync in others), [sync.process.poll() for sync in syncs]

    so_far(0.2)
    until(lambda: _uploads(boto, prefix), PATIENCE_S, "an upload in parts")
    until(lambda: len(_uploads(boto, prefix)) == 1, PATIENCE_S, "the others' large files stored")
    assert victim.runs
    victim.process.send_signal(signal.SIGKILL)
    assert victim.ended() == -signal.SIGKILL
    # What it told is so.
    told = {one["path"] for one in victim.files if one["ok"]}
    assert told <= {path for (path,) in place.rows("SELECT path FROM units WHERE state = 'present'")}
    so_far(0.4)
    assert place.server is not None
    place.server.stop(signal.SIGKILL if FULL else None)
    gevent.sleep(0.5)  # so long it is away at least
    place.server.start()
    so_far(0.7)
    object_server.freeze()
    try:
        gevent.sleep(FROZEN_S)
        assert all(sync.runs for sync in others)
    finally:
        object_server.thaw()


def _uploads(boto: Any, prefix: str) -> list[Any]:
    found: list[Any] = boto.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix + "/").get("Uploads", [])
    return found


def _all_is_there(lists: Lists, place: Place, boto: Any, prefix: str) -> None:
    bodies = {path: body for mine in lists.bodies for path, body in mine.items()}
    digests = {path: hashlib.sha256(body).hexdigest() for path, body in bodies.items()}
    # One row a unit, and each knows its bytes and its one source.
    keys = dict(place.rows("SELECT path, store_key FROM units WHERE state = 'present'"))
    assert place.rows("SELECT count(*), count(DISTINCT identity) FROM units") == [(len(bodies), len(bodies))]
    assert keys == {path: f"sha256/{digest[:2]}/{digest}" for path, digest in digests.items()}
    assert place.rows("SELECT count(*) FROM sources") == [(len(bodies),)]
    for me, mine in enumerate(lists.bodies):
        assert sorted(path for (path,) in place.rows(_MEMBERS.format(me))) == sorted(mine)
    # One object a digest, and no other.
    found = {}
    for page in boto.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix + "/"):
        found |= {one["Key"].removeprefix(prefix + "/"): one["Size"] for one in page.get("Contents", [])}
    assert found == {keys[path]: len(body) for path, body in bodies.items()}
    for key in found:
        body = boto.get_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["Body"].read()
        assert hashlib.sha256(body).hexdigest() == key.rpartition("/")[2]


_MEMBERS = """
    SELECT path FROM units JOIN unit_repositories ON unit_id = units.id JOIN repositories r ON r.id = repository_id
    WHERE r.name = 'list-{}'
"""
