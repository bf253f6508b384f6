"""``python -m bench.units``: what a million units cost, in any database.

In: how many units, a database's URL, an empty folder.  Out: rows a second, the database's size, and how long the
questions take that a mirror asks every day.  Never: a network; a figure of anything but what is printed beside it.

The files of one repository are real, the others are told as they would be after a download: everything is recorded the
way that a sync records, by greenlets that wait for their commits.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent.pool

from geofetch import FileStore, Recorder, Spec
from geofetch.events import Attempt, Head, Kept
from geofetch.records.database import located
from geofetch.records.opening import open_database
from geofetch.spec import Digest

from .__main__ import machine

#: Files that wait for their commits at once: as a pool of 64 lets them.
WAITING = 256
#: A host of which nothing is asked.
BASE = "http://127.0.0.1:9/mirror/"


def main(given: Sequence[str] | None = None) -> None:
    told = _parsed(given)
    print(" · ".join(f"{name}: {value}" for name, value in machine().items()))
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        root = Path(folder, "root")
        url = told.db or f"sqlite:///{folder}/units.db"
        print(f"{told.units:,} units, {told.real:,} of them in the repository of the sync; {located(url)!s}")
        manifest = _made(root, told.real)
        store = FileStore(root).name
        with Recorder(url) as recorder:
            _recorded(recorder, store, told.units, told.real)
        print(f"{'size of the database':>44} {_size(url) / told.units:10,.0f} bytes a unit")
        command = [sys.executable, "-m", "geofetch"]
        sync = [*command, "sync", str(manifest), "--base", BASE, "--into", str(root), "--repository", "real"]
        sync += ["--db", url, "--no-progress"]
        _timed("the first sync: reads and records the real ones", lambda: _run(sync))
        _asked(url, told)
        show = [*command, "units", "show", "000/000001.bin", "--db", url]
        _timed("units show, the command", lambda: _run(show), 3)
        _timed("sync with nothing to do, the command", lambda: _run(sync), 3)
        _timed("the same with --mirror", lambda: _run([*sync, "--mirror"]), 3)


def _parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.units", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=100_000, help="how many in all")
    parser.add_argument("--real", type=int, default=10_000, help="of them real files, in the repository of the sync")
    parser.add_argument("--db", help="an empty database's URL (a file of SQLite's in the folder)")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the files and SQLite's database go")
    told = parser.parse_args(given)
    if not 0 < told.real < told.units:
        parser.error("--real is some of --units")
    return told


def _content(number: int) -> bytes:
    return b"%08d" % number * 16


def _made(root: Path, count: int) -> Path:
    """That many files, and a manifest of them beside their folder."""
    manifest = root.with_suffix(".sums")
    with manifest.open("w") as lines:
        for number in range(count):
            name = _name(number)
            if number % 1000 == 0:
                (root / name).parent.mkdir(parents=True)
            (root / name).write_bytes(_content(number))
            lines.write(f"{hashlib.sha256(_content(number)).hexdigest()}  {name}\n")
    return manifest


def _name(number: int) -> str:
    return f"{number // 1000:03d}/{number:06d}.bin"


def _attempts(store: str, first: int, last: int) -> Iterator[Attempt]:
    headers = {"ETag": '"5f1c2f4d-3a2"', "Content-Type": "application/x-rpm"}
    for number in range(first, last):
        digest = Digest("sha256", hashlib.sha256(_content(number)).digest())
        name = _name(number)
        spec = Spec(BASE + name, path=name, digests=digest, repository=f"repository-{number % 10}")
        found = Attempt(spec, spec.source)
        found.head = Head(200, headers, 128, True, "", spec.source.url)
        found.size, found.verified, found.digests = 128, "digest", {"sha256": digest}
        found.kept = Kept(store, name, 128, 1_700_000_000_000_000_000 + number, number)
        yield found


def _recorded(recorder: Recorder, store: str, units: int, real: int) -> None:
    """All but the real ones, as their downloads would."""
    pool = gevent.pool.Pool(WAITING)

    def one(attempt: Attempt) -> None:
        hooks: Any = recorder.bind(attempt)
        hooks.on_stored(None)

    begun = time.perf_counter()
    for _ in pool.imap_unordered(one, _attempts(store, real, units), maxsize=WAITING):
        pass
    taken = time.perf_counter() - begun
    rows = 4 * (units - real)
    print(f"{'recorded':>44} {(units - real) / taken:10,.0f} units a second ({rows / taken:,.0f} rows), {taken:.0f} s")
    assert recorder.count() == units - real


def _size(url: str) -> int:
    address = located(url)
    if address.is_file:
        return sum(
            os.path.getsize(f"{address.path}{end}") for end in ("", "-wal") if os.path.exists(address.path + end)
        )
    database = open_database(address, False)
    try:
        text = "SELECT pg_database_size(current_database())"
        if url.startswith(("mysql", "mariadb")):
            text = (
                "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = database()"
            )
        return int(database.execute_sql(text).fetchone()[0])
    finally:
        database.close()


def _asked(url: str, told: argparse.Namespace) -> None:
    with Recorder(url) as recorder:
        _timed("units show, one by its path", lambda: recorder.unit(_name(told.units // 2)), 5)
        _timed(f"a listing: {told.real:,} units of one repository", lambda: _drained(recorder, "real", told.real))
        _timed("how many units it has", lambda: recorder.count(repository="real"), 3)
        _timed("repositories, their units and bytes", recorder.repository_sums, 3)


def _drained(recorder: Recorder, repository: str, wanted: int) -> None:
    found = sum(1 for _ in recorder.units(repository=repository))
    assert found == wanted, found


def _run(command: list[str]) -> None:
    # Whoever forbids Python to keep what it compiled would compile it once a command: that is not what is asked here.
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=around)


def _timed(what: str, work: Callable[[], Any], times: int = 1) -> None:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    each = ", ".join(f"{one:.3g}" for one in taken)
    print(f"{what:>44} {each} s", flush=True)


if __name__ == "__main__":
    main()
