"""What FsspecStore alone promises: on a real FTP server, and on filesystems of fsspec's that lie."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import gevent
import pytest
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import geofetch
from geofetch import FsspecStore, Pool, Spec, SpecError, StoreError
from geofetch.records import Recorder
from geofetch.testing.store import PATH, digests_of, put, written

from .support.apart import command, environment
from .support.ftp import PASSWORD, USER, FtpServer
from .support.mirrors import Mirror
from .support.process import ROOT, Child
from .support.ticking import Ticker
from .support.waiting import until

MIB = 1 << 20
BLOCK = os.urandom(MIB)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    server = FtpServer(tmp_path_factory.mktemp("ftp"))
    yield server
    server.end()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"{request.node.originalname[:40]}-{os.urandom(4).hex()}"


@pytest.fixture
def store(served: FtpServer, name: str) -> FsspecStore:
    return FsspecStore(served.url(name), **served.options)


def files(folder: Path) -> dict[str, bytes]:
    """What is there, without geofetch."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


# ------------------------------------------------------------------------------------------------------- what is stored


def test_files_are_stored_and_the_next_run_adopts_them(
    mirror: Mirror, served: FtpServer, store: FsspecStore, name: str, tmp_path: Path, ticker: Ticker
) -> None:
    tree = mirror.tree(6)
    large = mirror.serves(BLOCK, times=12, name="large.bin")
    specs = [*tree.urls, Spec(large.url, path="deep/er/large file.bin", size=12 * MIB)]
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, ticker:
        with Pool(4, store=store, recorder=recorder, progress=False) as pool:
            outcomes = pool.map(specs)
        assert [outcome.state for outcome in outcomes] == ["stored"] * 7, outcomes
        with Pool(4, store=store, recorder=recorder, progress=False) as pool:
            (again,) = pool.map(specs[-1:])
        assert again.state == "adopted"
        assert recorder.stores() == [f"fsspec+ftp://127.0.0.1:{served.port}/{name}"]
    assert ticker.worst_s < 0.1
    assert outcomes[-1].location == f"{store.name}/deep/er/large%20file.bin"
    assert files(served.folder / name) == {**tree.contents, "deep/er/large file.bin": BLOCK * 12}
    assert large.hits == 1


def test_what_is_stored_lies_beside_until_it_is_whole(served: FtpServer, store: FsspecStore, name: str) -> None:
    part = written(store, BLOCK * 3)
    assert list(store.keys()) == []
    assert not (served.folder / name).exists()  # it waits here: no connection is held for a slow source
    part.publish(digests_of(BLOCK * 3))
    assert files(served.folder / name) == {PATH: BLOCK * 3}


def test_a_folder_that_is_gone_meanwhile_is_made_anew(served: FtpServer, store: FsspecStore, name: str) -> None:
    put(store, b"one")
    (served.folder / name / PATH).unlink()
    (served.folder / name / PATH).parent.rmdir()
    put(store, b"two")
    assert files(served.folder / name) == {PATH: b"two"}


def test_parts_of_the_dead_are_no_files_and_are_swept(served: FtpServer, store: FsspecStore, name: str) -> None:
    put(store, b"one")
    left = served.folder / name / "pool" / ".part-0123"
    left.write_bytes(b"half")
    assert list(store.keys()) == [PATH]
    assert store.sweep() == 0  # it is young
    os.utime(left, (0, 0))
    assert store.sweep() == 1
    assert files(served.folder / name) == {PATH: b"one"}


def test_what_is_removed_is_the_very_file(store: FsspecStore) -> None:
    _, kept = put(store, b"one")
    assert kept is not None
    put(store, b"another one")
    with pytest.raises(StoreError, match="replaced since") as caught:
        store.remove(kept)
    assert caught.value.errno == errno.ESTALE
    now = store.stat(PATH)
    assert now is not None
    assert [store.remove(now), store.remove(now)] == [True, False]


# ------------------------------------------------------------------------------------------------- filesystems that lie


class Short(LocalFileSystem):
    """Says that a byte is missing."""

    protocol = "short"

    def info(self, path: Any, **kwargs: Any) -> Any:
        found = super().info(path, **kwargs)
        return {**found, "size": found["size"] - 1} if found["type"] == "file" else found


class Other(LocalFileSystem):
    """Says another digest."""

    protocol = "other"

    def info(self, path: Any, **kwargs: Any) -> Any:
        return {**super().info(path, **kwargs), "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}


class Flips(MemoryFileSystem):
    """Stores other bytes, and says nothing."""

    protocol = "flips"
    store: ClassVar[dict[str, Any]] = {}

    def pipe_file(self, path: Any, value: bytes, **kwargs: Any) -> None:
        super().pipe_file(path, bytes([value[0] ^ 1]) + value[1:], **kwargs)


class Tells(MemoryFileSystem):
    """Says who asked, and how, when something is wrong."""

    protocol = "tells"

    def __init__(self, password: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.password = password

    def info(self, path: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"login with {self.password} was refused")


for kind in (Short, Other, Flips, Tells):
    register_implementation(kind.protocol, kind, clobber=True)


@pytest.mark.parametrize(
    ("fs", "how", "said"),
    [
        (Short(), {}, "6 bytes are there, 7 were sent"),
        (Other(), {}, "other bytes are there than were sent"),
        (Flips(), {"proves": True}, "other bytes are there than were sent"),
    ],
    ids=["size", "digest-told", "digest-read"],
)
def test_what_the_filesystem_says_is_held_against_what_was_sent(tmp_path: Path, fs: Any, how: Any, said: str) -> None:
    store = FsspecStore(fs, str(tmp_path), **how)
    part = written(store, b"content")
    with pytest.raises(StoreError, match=said):
        part.publish(digests_of(b"content", "sha256", "md5"))
    part.discard()
    assert list(store.keys()) == []
    assert files(tmp_path) == {}


# ------------------------------------------------------------------------------------------------------ when it is away


def test_a_server_that_is_started_again_is_waited_for(mirror: Mirror, tmp_path: Path) -> None:
    server = FtpServer(tmp_path)
    store = FsspecStore(server.url("x"), **server.options)
    urls = [mirror.serves(b"%d" % number, name=f"{number}.bin").url for number in range(5)]
    try:
        with Pool(4, store=store, progress=False) as pool:
            assert pool.map(urls[:2])[0].ok
            server.stop()
            jobs = [pool.spawn(url) for url in urls[2:]]
            gevent.sleep(0.7)
            assert not any(job.outcome for job in jobs)
            server.start()
            assert [job.get(timeout=60).state for job in jobs] == ["stored"] * 3
    finally:
        server.end()
    assert files(tmp_path) == {f"x/{number}.bin": b"%d" % number for number in range(5)}


def test_a_server_that_stays_away_is_an_error_that_says_so() -> None:
    store = FsspecStore("ftp://127.0.0.1:9/x", patience_s=0.3)
    with pytest.raises(StoreError, match="nobody answers there; is the server running") as caught:
        store.ready()
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("options", [{}, {"username": USER, "password": "not-" + PASSWORD}], ids=["none", "wrong"])
def test_a_server_that_lets_nobody_in_is_told_with_the_cure(
    options: dict[str, str], served: FtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FSSPEC_FTP_USERNAME", "FSSPEC_FTP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    store = FsspecStore(served.url("x"), **options)
    with pytest.raises(
        StoreError, match=r"\(error_perm: 530.*by FSSPEC_FTP_USERNAME and FSSPEC_FTP_PASSWORD"
    ) as caught:
        store.ready()
    assert caught.value.errno == errno.EACCES
    assert PASSWORD not in str(caught.value)


def test_a_cancel_does_not_wait_for_a_server_that_stands_still(
    mirror: Mirror, served: FtpServer, store: FsspecStore, name: str
) -> None:
    store.ready()
    handle = mirror.serves(b"x" * 1000, stall=999, name="a.bin")
    with Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(handle.url)
        handle.arrived(20)
        served.freeze()
        try:
            handle.release()
            until(lambda: job._progress.attempts[-1].received_bytes == 1000, 10, "all bytes here")
            gevent.sleep(0.1)
            assert job.outcome is None
            began = time.monotonic()
            job.cancel()
            outcome = until(lambda: job.outcome, 20)
            assert time.monotonic() - began < 2.0
        finally:
            served.thaw()
    assert outcome is not None
    assert outcome.state == "cancelled"
    gevent.sleep(0.2)  # its thread goes on, and takes back what it did
    until(lambda: files(served.folder / name) == {}, 10, "nothing left")


SYNC = """
import sys, geofetch
with geofetch.Pool(2, store=geofetch.FsspecStore(sys.argv[1]), progress=False) as pool:
    print(pool.map([sys.argv[2]]), flush=True)
"""


def test_what_a_killed_process_left_has_no_name(
    mirror: Mirror, served: FtpServer, store: FsspecStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPEC_FTP_USERNAME", USER)
    monkeypatch.setenv("FSSPEC_FTP_PASSWORD", PASSWORD)
    large = mirror.serves(BLOCK, times=150, name="large.bin")
    program = [sys.executable, "-c", SYNC, served.url(name), large.url]
    with Child(program, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        until(lambda: any(one.stat().st_size for one in (served.folder / name).glob(".part-*")), 60, "a part sent")
        served.freeze()
        try:
            child.send_signal(signal.SIGKILL)
            assert child.wait(10) == -9
        finally:
            served.thaw()
    assert list(store.keys()) == []
    assert store.stat("large.bin") is None
    until(lambda: store.sweep(older_than_s=-60) or not files(served.folder / name), 20, "swept")
    assert files(served.folder / name) == {}


# ------------------------------------------------------------------------------------------------------ places, secrets


@pytest.mark.parametrize("how", ["url", "options"])
def test_user_and_password_are_shown_nowhere(
    served: FtpServer, name: str, how: str, tmp_path: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    if how == "url":
        signed = f"ftp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{served.port}/{name}"
        right = FsspecStore(signed)
        wrong = FsspecStore(signed.replace("canary", "canary-wrong"), patience_s=0)
    else:
        right = FsspecStore(served.url(name), username=USER, password=PASSWORD)
        wrong = FsspecStore(served.url(name), username=USER, password=f"{PASSWORD}-wrong", patience_s=0)
    records = f"sqlite:///{tmp_path}/units.db"
    with Pool(2, store=right, recorder=records, progress=False) as pool:
        (outcome,) = pool.map([mirror.serves(b"x", name="a.bin").url])
    assert outcome.state == "stored"
    with pytest.raises(StoreError) as caught:
        wrong.ready()
    shown = [repr(right), right.name, repr(right._files.place), outcome.location, repr(outcome), repr(caught.value)]
    shown += [str(caught.value), repr(caught.value.__cause__), caplog.text]
    shown.append((tmp_path / "units.db").read_bytes().decode("latin-1"))
    assert not [secret for secret in (PASSWORD, "c@ret", quote(PASSWORD, safe=""), USER) if secret in "\n".join(shown)]
    assert right.name == f"fsspec+ftp://127.0.0.1:{served.port}/{name}"


def test_what_a_filesystem_says_of_passwords_is_masked() -> None:
    store = FsspecStore(Tells(password=PASSWORD), "/x")
    with pytest.raises(StoreError, match="login with … was refused") as caught:
        store.stat("a")
    assert PASSWORD not in repr(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("where", "root", "how"),
    [
        ("ftp://u:hunter2@host/x?y=z", None, {}),
        ("ftp://u:hunter2@host:99999/x", None, {}),
        ("simplecache::ftp://u:hunter2@host/x", None, {}),
        ("simplecache:///x", None, {"target_protocol": "file"}),
        ("nosuch://u:hunter2@host/x", None, {}),
        ("file:///a/../b", None, {}),
        ("ftp://host/x", "/root", {}),
        (LocalFileSystem(), None, {}),
        (LocalFileSystem(), "/x", {"auto_mkdir": True}),
        (MemoryFileSystem(global_store=False), "/x", {}),
        ("x", None, {}),
        (7, None, {}),
        ("memory://x", None, {"durable": True}),
        ("memory://x", None, {"layout": "date"}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(where: Any, root: Any, how: Any) -> None:
    with pytest.raises(SpecError) as caught:
        FsspecStore(where, root, **how)
    assert "hunter2" not in str(caught.value)


def test_a_filesystem_on_asyncio_is_refused_in_a_patched_process() -> None:
    script = """
from gevent import monkey; monkey.patch_all()
import geofetch
from fsspec.asyn import AsyncFileSystem
class Async(AsyncFileSystem):
    protocol = "async"
try:
    geofetch.FsspecStore(Async(asynchronous=True), "/x")
except geofetch.SpecError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert "leave out patch_all()" in done.stdout, done.stderr


def test_without_fsspec_the_error_says_what_to_install() -> None:
    script = """
import sys
sys.modules["fsspec"] = None
import geofetch
try:
    geofetch.FsspecStore("ftp://host/x")
except geofetch.SpecError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "this store needs fsspec: pip install 'geofetch[fsspec]'", done.stderr


def test_the_url_that_records_have_is_the_place(served: FtpServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (f"memory://{name}", "file:///srv/a%20b", "memory:///x/y"):
        place = FsspecStore(where)
        assert FsspecStore(place.name).name == place.name
        assert FsspecStore(place.name)._files.place.root == place._files.place.root
    store = geofetch.store.store_for(f"fsspec+memory://{name}")
    put(store, b"x", "a")
    assert isinstance(store, FsspecStore)
    assert [*FsspecStore(f"fsspec+memory:///{name}").keys()] == ["a"]


# -------------------------------------------------------------------------------------------------------- the commands


def test_sync_verify_and_repair_on_an_ftp_server(
    mirror: Mirror, served: FtpServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPEC_FTP_USERNAME", USER)
    monkeypatch.setenv("FSSPEC_FTP_PASSWORD", PASSWORD)
    tree = mirror.tree(6)
    folder = served.folder / name
    into = ("--into", f"fsspec+{served.url(name)}", "--db", f"sqlite:///{tmp_path}/units.db", "--no-progress")
    done = command(["sync", tree.sums_url, *into, "--json"])
    assert done.returncode == 0, done.stderr
    assert files(folder) == tree.contents
    first, second, third = sorted(tree.contents)[:3]
    (folder / first).unlink()
    (folder / second).write_bytes(tree.contents[second][:-1])
    (folder / third).write_bytes(os.urandom(len(tree.contents[third])))
    mended = command(["verify", "--repair", *into, "--json"])
    told = json.loads(mended.stdout.splitlines()[-1])
    assert (mended.returncode, told["missing"], told["corrupt"]) == (0, 1, 2), mended.stderr
    assert told["repair"] == {"repaired": 3}
    kept = {path: content for path, content in files(folder).items() if not path.startswith(".geofetch")}
    assert kept == tree.contents
    folder.rename(folder.with_name(f"{name}-moved"))
    gone = command(["verify", *into])
    assert (gone.returncode, "is not there; is it the right server" in gone.stderr) == (12, True), gone.stderr
    assert PASSWORD not in done.stdout + done.stderr + mended.stdout + mended.stderr
