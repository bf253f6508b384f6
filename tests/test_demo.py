"""``geofetch demo``: the main job on made-up files, whatever the environment says."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from geofetch.cli import demo_steps

from .test_cli import run


def test_every_step_holds_and_what_it_made_can_be_looked_at(tmp_path: Path) -> None:
    done = run("demo", "--files", "25", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done.out + done.err
    assert "25/25 files" in done.err
    assert done.out.count("  held: ") == 5
    assert "it found exactly that one: main/lib012_1%3a5.2.pkg" in done.out
    (made,) = tmp_path.glob("geofetch-demo-*")
    assert f"geofetch units list --into {made}/mirror" in done.out
    assert len(run("units", "list", "--into", made / "mirror", cwd=tmp_path).out.splitlines()) == 25


def test_an_environment_that_leads_elsewhere_does_not_matter(tmp_path: Path) -> None:
    env = {
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
        "CURL_CA_BUNDLE": "/nowhere/ca.pem",
        "SSL_CERT_FILE": "/nowhere/ca.pem",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "GEOFETCH_HEADERS": "no header at all",
    }
    done = run("demo", "--files", "3", "--dir", "here", cwd=tmp_path, env=env)
    assert done.code == 0, done.out + done.err
    assert (tmp_path / "here/mirror/.geofetch/units.db").exists()
    again = run("demo", "--files", "3", "--dir", "here", cwd=tmp_path)
    assert again.code == 2
    assert "not empty" in again.err


def test_a_step_that_does_not_hold_fails_it(tmp_path: Path) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = run("demo", "--files", "9", "--dir", "here", cwd=tmp_path, preexec_fn=no_large_files)
    assert done.code == 1
    assert "the demo failed: geofetch sync ended with" in done.err
    assert "Traceback" not in done.err


def test_earlier_demos_are_removed_but_none_that_is_at_work_or_somebody_elses(tmp_path: Path) -> None:
    mine = f"{demo_steps.PREFIX}{os.getuid()}-"
    folders = {name: tmp_path / f"{mine}{name}" for name in ("now", "earlier", "running", "unmarked")}
    for folder in folders.values():
        folder.mkdir()
    # No process has this number: it is beyond the largest that Linux gives (2**22).
    (folders["earlier"] / demo_steps.MARK).write_text("99999999\n")
    (folders["running"] / demo_steps.MARK).write_text(f"{os.getpid()}\n")
    demo_steps._forget_earlier(folders["now"])
    assert {name for name, folder in folders.items() if folder.exists()} == {"now", "running", "unmarked"}
