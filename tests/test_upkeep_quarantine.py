"""gc: what a repair put aside goes when nobody needs it any more, and never before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geofetch import Recorder, upkeep
from geofetch.events import Kept
from geofetch.upkeep.collected import Collected
from tests.support.apart import environment
from tests.support.mirrors import Handle, Mirror
from tests.support.objects import BUCKET, KEY, SECRET, ObjectServer
from tests.support.process import ROOT
from tests.test_cli import run
from tests.upkeep_ground import Ground, any_ground, appended, flipped, warm

__all__ = ["any_ground", "warm"]

WEEK_S = 7 * 86_400


def quarantine(ground: Ground) -> list[str]:
    folder = ground.root / ".geofetch" / "quarantine"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def gc(ground: Ground, grace_s: float = 0.0, **how: Any) -> upkeep.Collection:
    return upkeep.gc(ground.recorder, ground.store, grace_s=grace_s, **how)


def serve(ground: Ground, handles: dict[str, Handle], there: bool) -> None:
    for name, handle in handles.items():
        if there:
            ground.mirror.serves(ground.content[name], at=handle.path)
        else:
            ground.mirror.serves(at=handle.path, status=404)


def put_aside(ground: Ground, handles: dict[str, Handle], *names: str) -> None:
    serve(ground, handles, there=False)
    ground.harm(names, flipped(ground.random))
    assert ground.repair(findings=ground.verify()).quarantined == len(names)


def mended(ground: Ground, handles: dict[str, Handle]) -> None:
    serve(ground, handles, there=True)
    done = ground.repair(findings=ground.verify())
    assert done.ok
    assert done.repaired


def test_what_was_put_aside_goes_when_its_unit_is_present_again(any_ground: Ground) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello", "pool/b": b"world"})
    put_aside(ground, handles, "pool/a")
    kept = gc(ground, strays=True)
    assert (kept.removed, kept.aside, kept.ok) == (0, 1, True)
    assert "1 stays in quarantine" in str(kept)
    mended(ground, handles)
    young = gc(ground, grace_s=3600)
    assert (young.removed, young.aside) == (0, 1)
    dry = gc(ground, dry_run=True)
    assert (dry.removed, dry.quarantined, dry.freed_bytes, dry.aside) == (1, 1, 5, 0)
    assert len(quarantine(ground)) == 1
    told = [one for one in upkeep.collect(ground.recorder, ground.store, grace_s=0) if isinstance(one, Collected)]
    assert [(one.what, one.state, one.size) for one in told] == [("quarantined", "removed", 5)]
    assert told[0].key.startswith(".geofetch/quarantine/")
    assert not (ground.root / ".geofetch" / "quarantine").exists()
    ground.assert_whole()
    assert ground.verify().ok
    assert gc(ground).removed == 0


def test_all_that_was_ever_put_aside_goes_with_a_unit_that_is_forgotten(any_ground: Ground) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello", "pool/b": b"world"}, repository="main")
    put_aside(ground, handles, "pool/a")
    mended(ground, handles)
    put_aside(ground, handles, "pool/a")
    assert len(quarantine(ground)) == 2
    assert gc(ground).aside == 2
    listing = ground.recorder.listing("main", ground.store.name)
    list(listing([spec for spec in (unit.spec() for unit in ground.recorder.units()) if spec.path == "pool/b"]))
    assert listing.take_off() == 1
    assert gc(ground, grace_s=WEEK_S).aside == 2
    dry = gc(ground, dry_run=True)
    assert (dry.units, dry.quarantined, dry.aside) == (1, 2, 0)
    done = gc(ground)
    assert (done.units, done.quarantined, done.aside) == (1, 2, 0)
    assert quarantine(ground) == []


def test_the_last_copy_stays_while_its_unit_is_wrong_in_any_way(any_ground: Ground) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello"})
    put_aside(ground, handles, "pool/a")
    mended(ground, handles)
    path = ground.path("pool/a")
    # The records say that it is present: as between a look at it and its mark.
    aside = path.rename(path.with_name("elsewhere"))
    assert gc(ground).aside == 1
    aside.rename(path)
    for state in ("missing", "corrupt", "quarantined"):
        assert ground.recorder.mark(ground.unit("pool/a"), state).get()  # type: ignore[arg-type]
        assert gc(ground, strays=True).aside == 1
    assert ground.recorder.mark(ground.unit("pool/a"), "present").get()
    appended(path)
    assert gc(ground).aside == 1
    assert len(quarantine(ground)) == 1


def test_records_that_never_heard_of_the_store_do_not_judge_its_quarantine(any_ground: Ground, tmp_path: Path) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello"})
    put_aside(ground, handles, "pool/a")
    with Recorder(f"sqlite:///{tmp_path}/others.db") as others:
        assert upkeep.gc(others, ground.store, grace_s=0).aside == 1
        assert len(quarantine(ground)) == 1
        assert upkeep.gc(others, ground.store, grace_s=0, strays=True).quarantined == 1


def test_one_that_was_put_aside_anew_meanwhile_is_left(any_ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello"})
    put_aside(ground, handles, "pool/a")
    mended(ground, handles)
    (path,) = (one for one in (ground.root / ".geofetch" / "quarantine").rglob("*") if one.is_file())
    remove = ground.store.remove_aside

    def late(kept: Kept) -> bool:
        path.unlink()
        path.write_bytes(b"another")
        return remove(kept)

    monkeypatch.setattr(ground.store, "remove_aside", late)
    done = gc(ground)
    assert (done.replaced, done.removed, done.ok) == (1, 0, True)
    assert path.read_bytes() == b"another"


KILLED = """
import os, signal, sys
from geofetch import FileStore, Recorder, upkeep
root, url, layout, name, after = sys.argv[1:]
act = getattr(os, name)
def struck(*args, **how):
    ours = any("/.geofetch/quarantine" in str(one) or "/removed-" in str(one) for one in args)
    if ours and after == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = act(*args, **how)
    if ours:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(os, name, struck)
upkeep.gc(Recorder(url), FileStore(root, layout=layout), grace_s=0)
"""


@pytest.mark.parametrize("after", ["before", "after"])
@pytest.mark.parametrize("step", ["rename", "unlink", "rmdir"])
def test_a_gc_that_is_killed_at_any_step_loses_nothing(step: str, after: str, any_ground: Ground) -> None:
    ground = any_ground
    handles = ground.stock({"pool/a": b"hello", "pool/b": b"world"})
    put_aside(ground, handles, "pool/a")
    mended(ground, handles)
    put_aside(ground, handles, "pool/b")
    layout = "path" if ground.store.address is None else "digest"
    words = [sys.executable, "-c", KILLED, str(ground.root), ground.url, layout, step, after]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, timeout=60)
    if ground.root.joinpath(".geofetch/quarantine").is_dir() and step == "rmdir" and layout == "path":
        assert done.returncode in (0, -signal.SIGKILL)  # no folder became empty
    else:
        assert done.returncode == -signal.SIGKILL, done.stderr
    again = gc(ground)
    assert (again.ok, again.aside) == (True, 1)
    (left,) = quarantine(ground)
    assert left.endswith(ground.unit("pool/b").store_key)
    assert ground.states() == {"pool/a": "present", "pool/b": "quarantined"}
    assert ground.path("pool/a").read_bytes() == b"hello"


def test_the_command_tells_what_it_takes_from_quarantine(mirror: Mirror, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 100)
    (tmp_path / "list").write_text("".join(f"file://{tmp_path}/{name}\n" for name in "abc"))
    assert run("sync", "list", "--into", "m", "-q", cwd=tmp_path).code == 0
    (tmp_path / "m" / "a").write_bytes(b"rotten")
    (tmp_path / "a").rename(tmp_path / "away")
    assert run("verify", "--repair", "--into", "m", "-q", cwd=tmp_path).code != 0
    kept = run("units", "gc", "--into", "m", "--grace", "0s", "--strays", cwd=tmp_path)
    assert (kept.code, kept.out) == (0, "")
    assert "1 stays in quarantine" in kept.err
    (tmp_path / "away").rename(tmp_path / "a")
    assert run("repair", "--into", "m", "-q", cwd=tmp_path).code == 0
    dry = run("units", "gc", "--into", "m", "--grace", "0s", "--dry-run", "--json", cwd=tmp_path)
    one, summary = dry.objects
    assert (one["what"], one["state"], one["store_key"]) == ("quarantined", "removed", ".geofetch/quarantine/a")
    assert (summary["quarantined"], summary["aside"], summary["freed_bytes"]) == (1, 0, 6)
    done = run("units", "gc", "--into", "m", "--grace", "0s", cwd=tmp_path)
    assert done.out.split() == ["quarantined", "1", "0", "0", "0", "0", "0", "6"]
    assert "1 file removed (1 from quarantine), 6 B freed" in done.err
    assert not (tmp_path / "m/.geofetch/quarantine").exists()


def test_in_a_bucket(
    mirror: Mirror, object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    prefix = f"quarantine-{os.urandom(4).hex()}"
    into = ("--into", f"s3+{object_server.endpoint}/{BUCKET}/{prefix}", "--db", "sqlite:///units.db")
    source = tmp_path / "a"
    source.write_bytes(b"right")
    (tmp_path / "list").write_text(f"file://{source}\n")
    assert run("sync", "list", *into, "-q", cwd=tmp_path).code == 0
    boto = object_server.boto()

    def asides() -> int:
        found = boto.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/.geofetch/quarantine/")
        return len(found.get("Contents", ()))

    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/a", Body=b"rotten")
    source.rename(tmp_path / "away")
    assert run("verify", "--repair", *into, "-q", cwd=tmp_path).code != 0
    collect = ("units", "gc", *into, "--grace", "0s", "--json")
    assert run(*collect, "--strays", cwd=tmp_path).objects[-1]["aside"] == 1
    (tmp_path / "away").rename(source)
    assert run("repair", *into, "-q", cwd=tmp_path).code == 0
    assert run(*collect, "--dry-run", cwd=tmp_path).objects[-1]["quarantined"] == 1
    assert asides() == 1
    done = run(*collect, cwd=tmp_path).objects[-1]
    assert (done["quarantined"], done["aside"], done["ok"]) == (1, 0, True)
    assert asides() == 0
    assert run("verify", *into, "-q", cwd=tmp_path).code == 0
