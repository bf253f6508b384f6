"""``geofetch sync``: what a manifest lists, in a folder that remembers it; and what signals make of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from geofetch.cli import sync
from geofetch.cli.console import Console
from geofetch.cli.signals import Signals
from geofetch.cli.work import Work
from geofetch.errors import TooLarge

from .support.mirrors import Handle, Mirror, Origins, Tree
from .support.waiting import until
from .test_cli import files_in, run, started


def stored(folder: Path) -> set[str]:
    """The names of finished files, parts and the records left out."""
    return {name for name in files_in(folder) if not name.startswith(".geofetch/")}


def units_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What the folder's records say, by path."""
    done = run("units", "list", "--json", "--into", folder, cwd=folder)
    assert done.code == 0, done.err
    return {one["stored"]["path"]: one for one in done.objects}


def test_all_that_is_listed_comes_and_is_remembered_and_a_second_time_nobody_is_asked(
    mirror: Mirror, tmp_path: Path
) -> None:
    tree = mirror.tree(40, (0, 3000))
    done = run("sync", tree.sums_url, "--into", "store", "--repository", "main", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.objects[-1]["files"]["stored"] == 40
    store = tmp_path / "store"
    assert {name: (store / name).read_bytes() for name in stored(store)} == tree.contents
    units = units_of(store)
    assert {path: (one["size_bytes"], one["digests"][0]["value"]) for path, one in units.items()} == {
        name: (len(tree.contents[name]), tree.digests[name]) for name in tree.names
    }
    assert {one["sources"][0]["url"] for one in units.values()} == set(tree.urls)
    assert {tuple(one["repositories"]) for one in units.values()} == {("main",)}
    before = tree.hits

    again = run("sync", tree.sums_url, "--into", "store", "--repository", "main", "--json", cwd=tmp_path)
    assert again.code == 0
    assert again.objects[-1]["files"] == {"stored": 0, "adopted": 40, "failed": 0, "cancelled": 0}
    assert {name: tree.hits[name] for name in tree.names} == {name: before[name] for name in tree.names}


def test_names_are_file_names(mirror: Mirror, tmp_path: Path) -> None:
    name = "libfoo_1%3a2.deb"
    source = mirror.serves(b"foo", at="/pool/libfoo_1%253a2.deb")
    listed = f"{hashlib.sha256(b'foo').hexdigest()}  {name}\n".encode()
    manifest = mirror.serves(listed, at="/pool/SHA256SUMS")
    assert run("sync", manifest.url, "--into", "store", cwd=tmp_path).code == 0
    assert stored(tmp_path / "store") == {name}
    assert source.hits == 1


def test_a_local_manifest_of_names_wants_a_base_and_a_list_of_urls_does_not(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(3)
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    done = run("sync", "SHA256SUMS", "--into", "store", cwd=tmp_path)
    assert done.code == 2
    assert "SHA256SUMS, line 1" in done.err
    assert "--base" in done.err
    assert run("sync", "SHA256SUMS", "--base", tree.base, "--into", "store", cwd=tmp_path).code == 0
    assert stored(tmp_path / "store") == set(tree.names)
    (tmp_path / "list").write_text("\n".join(tree.urls))
    assert run("sync", "list", "--into", "other", cwd=tmp_path).code == 0
    assert stored(tmp_path / "other") == set(tree.names)


def test_stdin_is_a_manifest_that_is_read_as_it_comes(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(2)
    with started("sync", "-", "--into", "store", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(tree.urls[0] + "\n")
        process.stdin.flush()
        # Whoever writes the list thinks; what it has written already is fetched.
        until(lambda: (tmp_path / "store" / tree.names[0]).exists(), what="the first file")
        process.stdin.write(tree.urls[1] + "\n")
        process.stdin.close()
        assert process.wait(30) == 0
    assert stored(tmp_path / "store") == set(tree.names)


def test_a_bad_line_is_told_by_its_number_before_anything_is_fetched(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(3)
    (tmp_path / "SHA256SUMS").write_text(tree.sums + "ff  ../escape\n")
    done = run("sync", "SHA256SUMS", "--base", tree.base, "--into", "store", "--json", cwd=tmp_path)
    assert done.code == 2
    assert "SHA256SUMS, line 4" in done.err
    assert tree.hits == {}
    assert not (tmp_path / "store").exists()


def test_a_manifest_that_is_not_there_says_so_by_its_code(mirror: Mirror, tmp_path: Path) -> None:
    done = run("sync", mirror.serves(status=404).url, "--into", "store", "--json", cwd=tmp_path)
    assert done.code == 7
    (summary,) = done.objects
    assert (summary["exit_code"], summary["error"]["type"], summary["error"]["exit_code"]) == (7, "NotFound", 7)
    assert files_in(tmp_path) == set()


def test_an_empty_manifest_is_no_error_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text("")
    done = run("sync", "SHA256SUMS", "--into", "store", cwd=tmp_path)
    assert done.code == 0
    assert "it lists no files" in done.err


def test_a_manifest_has_an_end(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MANIFEST_BYTES", 100_000)
    told = {"decode": False, "retries": 0}
    work = Work("sync", told, Console(quiet=True), Signals(print))
    with pytest.raises(TooLarge, match="is it one"):
        sync._fetched(work, mirror.serves(b"a" * 100, endless=True).url)


def test_who_we_are_is_told_to_nobody_that_only_a_manifest_from_the_network_has_named(
    origins: Origins, tmp_path: Path
) -> None:
    mine, other = origins.http(), origins.http()
    files = [one.serves(name.encode(), name=name) for one, name in ((mine, "a"), (other, "b"))]
    listed = "\n".join(file.url for file in files)
    manifest = mine.serves(listed.encode(), name="urls.txt")
    headers = ["-H", "X-Key: mine", "--user", "me:secret"]
    assert run("sync", manifest.url, "--into", "store", *headers, cwd=tmp_path).code == 0
    assert [_keys(file) for file in (manifest, *files)] == [("mine", True), ("mine", True), (None, False)]

    (tmp_path / "urls.txt").write_text(listed)
    assert run("sync", "urls.txt", "--into", "other", *headers, cwd=tmp_path).code == 0
    assert [file.requests[-1].header("X-Key") for file in files] == ["mine", "mine"]

    # A repair keeps to it, long after.
    (tmp_path / "store" / "b").unlink()
    assert run("verify", "--repair", "--into", "store", *headers, cwd=tmp_path).code == 0
    assert files[1].requests[-1].header("X-Key") is None


def _keys(file: Handle) -> tuple[str | None, bool]:
    return file.request.header("X-Key"), file.request.header("Authorization") is not None


def test_the_same_bytes_are_stored_once_in_a_layout_by_digest(mirror: Mirror, tmp_path: Path) -> None:
    urls = [mirror.serves(b"same", name=name).url for name in ("a", "b")]
    (tmp_path / "list").write_text("\n".join(urls))
    flags = ["--into", "store", "--layout", "digest", "--durable"]
    assert run("sync", "list", *flags, cwd=tmp_path).code == 0
    digest = hashlib.sha256(b"same").hexdigest()
    assert stored(tmp_path / "store") == {"a", "b", f"sha256/{digest[:2]}/{digest}"}
    # verify knows the layout by itself.
    blob = tmp_path / "store/sha256" / digest[:2] / digest
    blob.write_bytes(b"rots")
    assert run("verify", "--into", "store", "--repair", cwd=tmp_path).code == 0
    assert blob.read_bytes() == b"same"
    assert [(tmp_path / "store" / name).resolve() for name in ("a", "b")] == [blob, blob]
    assert run("verify", "--into", "store", cwd=tmp_path).code == 0


# -------------------------------------------------------------------------------------------------------------- signals


def _halfway(mirror: Mirror, tmp_path: Path) -> tuple[Tree, Handle, Path]:
    """A list of ten files that come and one that waits at its gate in the middle of its body."""
    tree, gated = mirror.tree(10), mirror.serves(b"x" * 50_000, stall=20_000, name="gated")
    (tmp_path / "list").write_text("\n".join([*tree.urls, gated.url]))
    return tree, gated, tmp_path / "store"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_in_good_order(number: int, code: int, mirror: Mirror, tmp_path: Path) -> None:
    tree, gated, store = _halfway(mirror, tmp_path)
    with started("sync", "list", "--into", store, "--json", cwd=tmp_path) as process:
        gated.arrived(30)
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in tree.names]
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 2.5  # two seconds, and some for a busy machine to notice
    assert {one["path"] for one in told} == set(tree.names)
    assert process.returncode == code
    assert "Traceback" not in err
    assert stored(store) == set(tree.names)
    *_, summary = map(json.loads, out.splitlines())
    assert summary["files"] == {"stored": 10, "adopted": 0, "failed": 0, "cancelled": 1}
    assert (summary["signal"], summary["exit_code"]) == (number, code)
    assert set(units_of(store)) == set(tree.names)


def test_a_signal_while_the_manifest_is_fetched_ends_it(mirror: Mirror, tmp_path: Path) -> None:
    manifest = mirror.serves(b"x" * 1000, stall=10)
    with started("sync", manifest.url, "--into", "store", "--json", cwd=tmp_path) as process:
        manifest.arrived(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["signal"] == signal.SIGINT  # in good order: an end at once says nothing
    assert "Traceback" not in err
    assert files_in(tmp_path) == set()


def _stuck(mirror: Mirror, tmp_path: Path) -> subprocess.Popen[str]:
    """A sync that cannot go on, nor end in good order: nobody reads what it says."""
    tree = mirror.tree(400, 16)
    (tmp_path / "list").write_text("\n".join(tree.urls))
    process = started("sync", "list", "--into", "store", "--json", "-q", cwd=tmp_path)
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    # A pipe of one page has room as long as it is empty: the first line goes in, the second one waits.
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    until(lambda: _held(pipe) > 0, 30, "the pipe to be full")
    return process


def _held(pipe: int) -> int:
    found: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return found


def _is_consistent(store: Path) -> bool:
    units = units_of(store)
    return bool(units) and all((store / path).stat().st_size == one["size_bytes"] == 16 for path, one in units.items())


def test_a_second_signal_ends_it_at_once(mirror: Mirror, tmp_path: Path) -> None:
    with _stuck(mirror, tmp_path) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() - began < 1.2:
            # The first one may still be on its way when the second one comes, and both be one.
            process.send_signal(signal.SIGINT)
            os.sched_yield()
        assert process.wait(30) == 130
        assert time.monotonic() - began < 1.5
    assert _is_consistent(tmp_path / "store")


def test_a_reader_that_never_reads_does_not_keep_it_from_ending(mirror: Mirror, tmp_path: Path) -> None:
    with _stuck(mirror, tmp_path) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert time.monotonic() - began < 2.5
    assert _is_consistent(tmp_path / "store")


def test_a_reader_that_leaves_ends_it_quietly(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(400, 16)
    (tmp_path / "list").write_text("\n".join(tree.urls))
    with started("sync", "list", "--into", "store", "--json", "--no-progress", cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(30) == 141
    assert _is_consistent(tmp_path / "store")


def test_a_shell_that_ignores_interrupts_for_us_is_obeyed(mirror: Mirror, tmp_path: Path) -> None:
    _, gated, store = _halfway(mirror, tmp_path)

    def ignored() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with started("sync", "list", "--into", store, cwd=tmp_path, preexec_fn=ignored) as process:
        gated.arrived(30)
        process.send_signal(signal.SIGINT)
        gated.release()
        assert process.wait(30) == 0


def test_a_folder_that_cannot_be_one_is_told_once_and_nothing_is_fetched(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(3, (1, 2000))
    (tmp_path / "taken").write_text("a file")
    done = run("sync", tree.sums_url, "--into", "taken/store", "--db", "sqlite:///units.db", cwd=tmp_path)
    assert done.code == 12, done.err
    (line,) = done.err.splitlines()
    assert f"storing files in {tmp_path}/taken/store" in line
    assert set(tree.hits) == {"SHA256SUMS"}
