"""Acceptance 8 and 9: bounded whatever comes, and a hub that is never away for long.

By default the consumer of the hundred thousand sleeps 0.05 s at each of 20 points; with GEOFETCH_TEST_FULL=1 it sleeps
the whole second that the acceptance asks for.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geofetch.pool import AHEAD, Pool
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.store import FileStore
from tests.support.fair import FairTicker
from tests.support.flood import SIZE
from tests.support.mirrors import Mirror
from tests.support.process import ROOT
from tests.support.ticking import Control
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests

FULL = bool(os.environ.get("GEOFETCH_TEST_FULL"))
SPECS = 100_000
FILES = 2_000


@pytest.mark.timeout(600)
def test_a_hundred_thousand_specs_take_no_more_memory_than_ten_thousand() -> None:
    command = [sys.executable, "-m", "tests.support.flood", str(SPECS), "1" if FULL else "0.05", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["outcomes"], seen["published"]) == (SPECS, SPECS)
    assert seen["most_ahead"] <= AHEAD * SIZE
    assert seen["grown_bytes"] < 20 << 20


@pytest.mark.timeout(600)
def test_the_hub_is_never_away_for_long_while_files_are_synced_for_good(
    mirror: Mirror, tmp_path: Path, control_ticker: Control
) -> None:
    ticker = FairTicker(control_ticker)
    # What the test run itself holds in memory is not the pool's to look through: that alone takes a tenth of a second.
    gc.collect()
    gc.freeze()
    tree = mirror.tree(FILES, (500, 8_000))
    specs = [
        Spec(url, path=f"{name[:4]}/{name}", digests=f"sha256:{tree.digests[name]}", repository="tree")
        for name, url in zip(tree.names, tree.urls, strict=True)
    ]
    worst = []
    for n in range(3):
        root = tmp_path / str(n)
        store = FileStore(root, durable=True)
        recorder = Recorder(f"sqlite:///{root}/.geofetch/units.db")
        with recorder, Pool(32, store=store, recorder=recorder, progress=False) as pool, ticker:
            states = {outcome.state for outcome in pool.imap_unordered(specs)}
            assert states == {"stored"}
        with Recorder(f"sqlite:///{root}/.geofetch/units.db") as again:
            assert again.count(repository="tree", state="present") == FILES
        store.close()
        worst.append(ticker.worst_s)
    gc.unfreeze()
    assert statistics.median(worst) <= 0.1, worst


def test_the_ticker_sees_what_the_hub_does_itself(control_ticker: Control) -> None:
    def seen() -> bool:
        ticker = FairTicker(control_ticker)
        with ticker:
            time.sleep(0.2)  # the fault itself: it stops the hub, and waits for no processor
        return ticker.worst_s >= 0.2

    assert any(seen() for _ in range(10))
