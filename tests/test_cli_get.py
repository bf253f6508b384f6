"""``geofetch get``: files by URL, and nothing but them."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from geofetch.cli.downloads import COLLECTED_AT
from geofetch.records.models import SchemaRow

from .support.certs import Authority
from .support.mirrors import Mirror, Origins
from .support.walking import in_subprocess
from .test_cli import files_in, run, started

BODY = b"what was asked for\n" * 100
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()


def test_nothing_but_the_file_is_left(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, name="a.bin")
    done = run("get", source.url, "--digest", DIGEST, "--size", str(len(BODY)), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out == ""
    assert files_in(tmp_path) == {"a.bin"}
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert list(Path(os.environ["HOME"]).iterdir()) == []


def test_the_command_has_garbage_collected_rarely_and_the_library_leaves_that_alone(
    mirror: Mirror, tmp_path: Path
) -> None:
    said = in_subprocess(
        """
        import gc
        from geofetch.cli import main
        before = gc.get_threshold(), gc.get_freeze_count()  # of some releases a few are frozen from the beginning
        geofetch.fetch(url, to=into + "/fetched", progress=False)
        print((gc.get_threshold(), gc.get_freeze_count()) == before)
        print(main(["get", "-q", "-d", into, url]), gc.get_threshold()[0], gc.get_freeze_count() - before[1] > 1000)
        """,
        url=mirror.serves(BODY, name="got").url,
        into=str(tmp_path),
    )
    assert said.splitlines() == ["True", f"0 {COLLECTED_AT} True"]
    assert files_in(tmp_path) == {"fetched", "got"}


def test_several_files_go_into_a_folder_that_is_made(mirror: Mirror, tmp_path: Path) -> None:
    urls = [mirror.serves(name.encode(), name=name).url for name in ("a", "b", "c")]
    assert run("get", "-d", "new/folder", *urls, cwd=tmp_path).code == 0
    assert files_in(tmp_path) == {"new/folder/a", "new/folder/b", "new/folder/c"}


def test_a_file_that_is_proven_right_is_kept_and_nobody_is_asked(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY)
    (tmp_path / "mine").write_bytes(BODY)
    done = run("get", source.url, "-o", "mine", "--digest", DIGEST, "--json", cwd=tmp_path)
    assert done.code == 0
    assert [one.get("state") for one in done.objects] == ["adopted", None]
    assert source.hits == 0


def test_a_file_stays_what_it_was_when_the_new_one_is_wrong(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(b"not it")
    (tmp_path / "mine").write_bytes(b"before")
    done = run("get", source.url, "-o", "mine", "--digest", DIGEST, cwd=tmp_path)
    assert done.code == 11
    assert "sha256" in done.err
    assert files_in(tmp_path) == {"mine"}
    assert (tmp_path / "mine").read_bytes() == b"before"


def test_stdout_is_a_place_for_a_file(mirror: Mirror, tmp_path: Path) -> None:
    assert run("get", mirror.serves(BODY).url, "-o", "-", cwd=tmp_path).out == BODY.decode()
    assert files_in(tmp_path) == set()


def test_a_further_source_is_asked_when_the_first_fails(mirror: Mirror, tmp_path: Path) -> None:
    missing, there = mirror.serves(status=404, name="a"), mirror.serves(BODY, name="b")
    done = run("get", missing.url, "--source", there.url, "--json", "-o", "x", cwd=tmp_path)
    assert done.code == 0
    assert {missing.hits, there.hits} <= {0, 1}
    assert there.hits == 1
    assert done.objects[0]["url"] == there.url


@pytest.mark.parametrize(
    ("how", "flags", "code"),
    [
        pytest.param({"status": 404}, [], 7, id="not-found"),
        pytest.param({"status": 403}, [], 8, id="not-let-in"),
        pytest.param({"status": 418}, [], 6, id="client-error"),
        pytest.param({"status": 500}, ["--retries", "0"], 9, id="server-error"),
        pytest.param({"status": 429, "retry_after": 1}, ["--retries", "0"], 9, id="rate-limited"),
        pytest.param({"body": BODY, "cut": 10}, ["--retries", "0"], 4, id="cut"),
        pytest.param({"body": BODY, "stall": 10}, ["--retries", "0", "--timeout", "0.3"], 5, id="stalled"),
        pytest.param({"body": BODY, "stall": "head"}, ["--deadline", "0.3s"], 5, id="deadline"),
        pytest.param({"body": BODY}, ["--size", "7"], 11, id="wrong-size"),
        pytest.param({"body": BODY, "gzip": True}, ["--digest", DIGEST], 11, id="encoded"),
        pytest.param({"body": BODY}, ["-d", "taken"], 12, id="storage"),
        pytest.param({"body": BODY}, ["--db", "sqlite:///taken"], 13, id="records"),
    ],
)
def test_the_exit_code_says_what_failed(
    how: dict[str, object], flags: list[str], code: int, mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file that is neither a folder nor a database " * 30)
    source = mirror.serves(name="a.bin", **how)  # type: ignore[arg-type]
    done = run("get", source.url, *flags, "--json", "--progress", "none", cwd=tmp_path)
    assert done.code == code, done.err
    assert done.objects[-1]["event"] == "summary"
    assert done.objects[-1]["exit_code"] == code
    assert done.objects[-1]["ok"] is False
    assert "Traceback" not in done.err
    assert not [name for name in files_in(tmp_path) if ".part-" in name]


def test_decoding_is_asked_for(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, gzip=True, name="a.bin")
    assert run("get", source.url, "--digest", DIGEST, "--decode", cwd=tmp_path).code == 0
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_different_causes_give_3_and_each_is_told(mirror: Mirror, origins: Origins, tmp_path: Path) -> None:
    urls = [mirror.serves(status=404, name="a").url, origins.refusing().base + "/b", mirror.serves(BODY, name="c").url]
    done = run("get", *urls, "--retries", "0", "--json", cwd=tmp_path)
    assert done.code == 3
    *each, summary = done.objects
    assert {one["path"]: (one["error"] or {}).get("exit_code") for one in each} == {"a": 7, "b": 4, "c": None}
    assert summary["files"] == {"stored": 1, "adopted": 0, "failed": 2, "cancelled": 0}
    assert summary["exit_codes"] == {"4": 1, "7": 1}


def test_who_answers_must_be_shown_to_be_who_was_meant(secure: Mirror, ca: Authority, tmp_path: Path) -> None:
    source = secure.serves(BODY, name="a.bin")
    assert run("get", source.url, cwd=tmp_path).code == 10
    assert files_in(tmp_path) == set()
    assert run("get", source.url, "--cacert", ca.path, cwd=tmp_path).code == 0
    done = run("get", source.url, "--insecure", "-o", "b", cwd=tmp_path)
    assert done.code == 0
    assert "not checked" in done.err
    assert len(done.err.splitlines()) == 2


def test_a_client_certificate_is_shown(mutual: Mirror, ca: Authority, tmp_path: Path) -> None:
    source = mutual.serves(BODY, name="a.bin")
    mine = ca.client("me")
    flags = ["--cacert", ca.path, "--cert", mine.cert, "--key", mine.key]
    assert run("get", source.url, *flags, cwd=tmp_path).code == 0
    assert [one.client for one in source.connections] == ["me"]


def test_json_tells_of_each_file_and_last_of_the_whole(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, name="a.bin")
    done = run("get", source.url + "?n=1", "-d", "d", "--digest", DIGEST, "--json", cwd=tmp_path)
    file, summary = done.objects
    assert file.pop("elapsed_s") >= 0
    assert file == {
        "event": "file",
        "path": "a.bin",
        "state": "stored",
        "ok": True,
        "url": source.url + "?n=***",
        "location": str(tmp_path / "d" / "a.bin"),
        "size_bytes": len(BODY),
        "digests": {"sha256": DIGEST.removeprefix("sha256:")},
        "verified": "digest",
        "fetched_bytes": len(BODY),
        "attempts": 1,
        "repository": None,
        "error": None,
    }
    assert summary.pop("elapsed_s") >= 0
    assert summary == {
        "event": "summary",
        "command": "get",
        "ok": True,
        "exit_code": 0,
        "files": {"stored": 1, "adopted": 0, "failed": 0, "cancelled": 0},
        "exit_codes": {},
        "fetched_bytes": len(BODY),
        "taken_off": None,
        "wanted": None,
        "signal": None,
        "error": None,
    }


def test_records_are_kept_where_they_are_asked_for(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, name="a.bin")
    assert run("get", source.url, "--into", "store", "-o", "below/b.bin", "--repository", "r", cwd=tmp_path).code == 0
    assert (tmp_path / "store/below/b.bin").read_bytes() == BODY
    assert run("get", source.url, "-d", "plain", "--db", "sqlite:///u.db", cwd=tmp_path).code == 0
    assert files_in(tmp_path / "plain") == {"a.bin"}
    for flags, path in ((["--into", "store"], "below/b.bin"), (["--db", "sqlite:///u.db"], "a.bin")):
        (unit,) = run("units", "list", "--json", *flags, cwd=tmp_path).objects
        assert (unit["stored"]["path"], unit["sources"][0]["url"]) == (path, source.url)
        assert run("verify", *flags, cwd=tmp_path).code == 0


def test_headers_and_passwords_need_not_stand_on_a_command_line(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("X-From-File: canary-file\n\n")
    source = mirror.serves(BODY)
    env = {"GEOFETCH_HEADERS": "X-From-Env: canary-env", "GEOFETCH_PASSWORD": "canary-password"}
    flags = ["-H", "@headers", "-H", "X-Plain: 1", "--user", "me"]
    assert run("get", source.url, *flags, "-o", "x", cwd=tmp_path, env=env).code == 0
    request = source.request
    assert request.header("X-From-File") == "canary-file"
    assert request.header("X-From-Env") == "canary-env"
    assert request.header("X-Plain") == "1"
    assert request.header("Authorization") == "Basic bWU6Y2FuYXJ5LXBhc3N3b3Jk"


def test_a_header_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    done = run("get", "http://localhost/a", "-H", "Bearer canary", cwd=tmp_path)
    assert done.code == 2
    assert "'Name: value' is wanted" in done.err
    assert "canary" not in done.err


@pytest.mark.parametrize("outcome", ["stored", "missing", "unreachable", "no-proxy"])
def test_no_secret_is_told_or_kept(outcome: str, mirror: Mirror, origins: Origins, tmp_path: Path) -> None:
    status = 404 if outcome == "missing" else 200
    source = origins.refusing() if outcome == "unreachable" else mirror.serves(BODY, status=status)
    proxied = (
        ["--proxy", origins.refusing().base.replace("://", "://me:canary-proxy@")] if outcome == "no-proxy" else []
    )
    url = source.url.replace("://", "://canary-user:canary-userinfo@") + "?token=canary-query&n=canary-value"
    flags = ["--header", "X-Key: canary-header", "-u", "me:canary-auth", *proxied, "--retries", "1", "-o", "x"]
    done = run("get", url, *flags, "-vvv", "--json", "--into", "store", cwd=tmp_path)
    assert done.code == {"stored": 0, "missing": 7}.get(outcome, 4), done.err
    assert "canary" not in done.out + done.err
    kept = b"".join(path.read_bytes() for path in (tmp_path / "store/.geofetch").rglob("*") if path.is_file())
    assert b"canary" not in kept
    assert "connection" in done.err.lower()  # -vvv shows what urllib3 says, too


def test_what_drives_a_terminal_is_escaped(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(status=404, name="evil\u202etxt")
    done = run("get", source.url, cwd=tmp_path)
    assert "evil\\u202etxt" in done.err
    assert "\u202e" not in done.err


def test_progress_is_a_line_where_there_is_no_terminal(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.serves(BODY, name="a.bin").url
    assert re.fullmatch(r"geofetch: 1/1 file, 1\.9 kB in .*B/s\n", run("get", url, cwd=tmp_path).err)
    assert run("get", url, "-q", cwd=tmp_path).err == ""
    assert run("get", url, "--no-progress", cwd=tmp_path).err == ""
    told = run("get", url, "--progress", "json", cwd=tmp_path)
    assert '"event": "progress"' in told.err
    assert told.out == ""


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
def test_bars_are_drawn_on_a_terminal(colour: bool, mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, stall=10, name="a.bin")
    mine, theirs = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "80"} | ({} if colour else {"NO_COLOR": "1"})
    with started("get", source.url, cwd=tmp_path, env=env, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"files" not in seen:
            seen += os.read(mine, 4096)
        source.release()
        seen += _to_the_end(mine)
        assert process.wait(30) == 0
    assert "1/1" in seen.decode()
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]", seen)) is colour


def _to_the_end(descriptor: int) -> bytes:
    parts = []
    try:
        while part := os.read(descriptor, 4096):
            parts.append(part)
    except OSError:  # EIO: the other end is closed
        pass
    os.close(descriptor)
    return b"".join(parts)


def test_a_database_of_a_later_version_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(BODY, name="a.bin")
    assert run("get", source.url, "--into", "store", cwd=tmp_path).code == 0
    with closing(sqlite3.connect(tmp_path / "store/.geofetch/units.db")) as database, database:
        database.execute(f"UPDATE {SchemaRow._meta.table_name} SET version = 9999")
    done = run("units", "list", "--into", "store", cwd=tmp_path)
    assert done.code == 13, done.err
    assert len(done.err.splitlines()) == 1
