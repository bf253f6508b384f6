"""``file://`` through the same door: read and never touched, on this machine alone."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests

import geofetch
from geofetch.errors import NotFound, SpecError, Truncated, Unauthorized
from geofetch.session import Session
from geofetch.spec import Source
from geofetch.stream import opened
from tests.origin.content import made
from tests.support.apart import open_to_all
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import PATIENT, downloaded, refused
from tests.support.walking import in_subprocess

CONTENT = made(300_000, "a local file")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


def test_a_local_file_is_an_answer_like_any_other(file: Path) -> None:
    response = Session().get(file.as_uri())
    assert (response.status_code, response.reason, response.content) == (200, "OK", CONTENT)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.url == file.as_uri()
    assert response.request.method == "GET"
    assert response.history == []
    assert geofetch.get(file.as_uri()).content == CONTENT
    with Session().get(file.as_uri(), stream=True) as streamed:
        assert b"".join(streamed.iter_content(1000)) == CONTENT


def test_a_local_file_is_downloaded(file: Path) -> None:
    head, body = downloaded(file.as_uri())
    assert body == CONTENT
    assert (head.status, head.length, head.framed, head.encoding) == (200, len(CONTENT), True, "")


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "file:{}", "FILE://{}"])
def test_every_way_to_write_this_machine(file: Path, form: str) -> None:
    url = form.format(file)
    assert Session().get(url).content == CONTENT
    assert downloaded(url)[1] == CONTENT


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("two words", "two%20words"),
        ("a%3a", "a%253a"),
        ("%41", "%2541"),
        ("Ünïcode", "%C3%9Cn%C3%AFcode"),
        ("a?b", "a%3Fb"),
        ("a#b", "a%23b"),
        ("a+b&c", "a+b&c"),
        ("a;b", "a;b"),
    ],
)
def test_a_path_is_decoded_once(tmp_path: Path, name: str, written: str) -> None:
    (tmp_path / name).write_bytes(b"this one")
    for wrong in {name.replace("%3a", ":").replace("%41", "A")} - {name}:
        (tmp_path / wrong).write_bytes(b"not this one")
    url = f"file://{tmp_path}/{written}"
    assert Session().get(url).content == b"this one"
    assert downloaded(url)[1] == b"this one"


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(path, "wb") as file:
        file.write(b"x")
    assert downloaded(f"file://{tmp_path}/%FF%FE")[1] == b"x"


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1])
def test_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(made(size))
    assert downloaded(path.as_uri())[1] == made(size)
    assert Session().get(path.as_uri()).content == made(size)


def test_another_host_is_not_reached(file: Path) -> None:
    for host in ("elsewhere", "127.0.0.1", "user@localhost", "localhost:80"):
        with pytest.raises(requests.exceptions.InvalidURL):
            Session().get(f"file://{host}{file}")
        with pytest.raises(SpecError):
            Source(f"file://{host}{file}")


@pytest.mark.parametrize("url", ["file:relative", "file://", "file:///a%00b", "file:"])
def test_what_names_no_file(url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "relative").write_bytes(b"x")
    with pytest.raises(requests.exceptions.InvalidURL):
        Session().get(url)


def test_what_is_not_there(tmp_path: Path, file: Path) -> None:
    for path in (tmp_path / "gone", tmp_path / "no" / "such" / "folder", file / "below-a-file"):
        response = Session().get(path.as_uri())
        assert (response.status_code, response.content) == (404, b"")
        refused(NotFound, path.as_uri())
    assert Session().get((tmp_path / ("n" * 300)).as_uri()).status_code == 404


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    """A fifo has no writer, a device has no end, a socket cannot be opened: all of it is refused at once."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with gevent.Timeout(10):
            for path in (tmp_path, tmp_path / "fifo", tmp_path / "socket", Path("/dev/zero")):
                assert Session().get(path.as_uri()).status_code == 403
                refused(Unauthorized, path.as_uri())


def test_a_link_leads_to_its_file(tmp_path: Path, file: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert downloaded((tmp_path / "link").as_uri())[1] == CONTENT
    for nowhere in ("dangling", "loop"):
        refused(NotFound, (tmp_path / nowhere).as_uri())


def test_what_may_not_be_read(tmp_path: Path) -> None:
    """As nobody, in a process of its own: root reads everything."""
    locked = tmp_path / "locked"
    locked.write_bytes(b"secret")
    locked.chmod(0)
    code = """
        import os
        session = geofetch.Session()
        session.get("file:///dev/null")  # what is imported late is imported now
        if os.geteuid() == 0:
            os.seteuid(65534)
        response = session.get(url)
        print(response.status_code, response.content)
    """
    open_to_all(tmp_path)
    assert in_subprocess(code, url=locked.as_uri()).strip() == "403 b''"


def test_a_file_is_never_modified(file: Path) -> None:
    def state() -> tuple[Any, ...]:
        found = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return digest, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode, os.listdir(file.parent)

    before = state()
    session = Session()
    session.get(file.as_uri())
    session.head(file.as_uri())
    downloaded(file.as_uri())
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = session.request(method, file.as_uri(), data=b"other content")
        assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
    assert state() == before


def test_head_tells_the_size_and_nothing_else(file: Path) -> None:
    response = Session().head(file.as_uri())
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert Session().head((file.parent / "gone").as_uri()).status_code == 404


def test_a_file_that_shrinks_meanwhile_is_truncated(file: Path) -> None:
    with opened(Session(), Source(file.as_uri()), PATIENT) as body, pytest.raises(Truncated, match="of 300000 bytes"):
        os.truncate(file, 10)
        for _ in body:
            pass


def test_a_file_that_grows_meanwhile_is_what_it_was(file: Path) -> None:
    with opened(Session(), Source(file.as_uri()), PATIENT) as body:
        with file.open("ab") as growing:
            growing.write(b"more")
        assert b"".join(body) == CONTENT


def test_no_descriptor_is_left(file: Path) -> None:
    def there() -> int:
        return sum(os.path.samefile(f"/proc/self/fd/{fd}", file) for fd in os.listdir("/proc/self/fd") if alive(fd))

    def alive(fd: str) -> bool:
        return os.path.exists(f"/proc/self/fd/{fd}")

    session = Session()
    session.get(file.as_uri())
    session.head(file.as_uri())
    downloaded(file.as_uri())
    with session.get(file.as_uri(), stream=True) as response:
        response.raw.read1(10)
        assert there() == 1
    with opened(session, Source(file.as_uri()), PATIENT):
        assert there() == 1
    assert there() == 0


def test_a_file_is_closed_where_a_hook_refuses_it(file: Path) -> None:
    seen: list[requests.Response] = []

    def refuses(response: requests.Response, **_: Any) -> None:
        seen.append(response)
        raise KeyError("refused")

    with pytest.raises(KeyError, match="refused"):
        Session().get(file.as_uri(), hooks={"response": refuses}, stream=True)
    assert seen[0].raw.closed
    # The control: one that nobody refuses stays open.
    Session().get(file.as_uri(), hooks={"response": lambda response, **_: seen.append(response)}, stream=True)
    assert not seen[1].raw.closed
    seen[1].close()
