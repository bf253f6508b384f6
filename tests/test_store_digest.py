"""The layout by digest: the same bytes once, a link wherever a spec wants them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch.errors import StoreError
from geofetch.kills import shielded
from geofetch.spec import Spec
from geofetch.store import FileStore
from geofetch.store.base import Part
from geofetch.testing.store import HEAD, URL, attempt, digests_of, put, written

WANTED = [*digests_of(b"bytes").values()]
KEY = f"sha256/{WANTED[0].hex[:2]}/{WANTED[0].hex}"


def _store(root: Path, links: Any = True) -> FileStore:
    return FileStore(root, layout="digest", links=links)


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_the_same_bytes_are_stored_once_and_linked_twice(tmp_path: Path) -> None:
    store = _store(tmp_path)
    first, kept = put(store, b"bytes", "a")
    second, again = put(store, b"bytes", "d/e/b")
    store.close()
    assert (kept, again) == (again, kept)
    assert kept is not None
    assert kept.key == KEY
    assert _files(tmp_path) == ["a", "d/e/b", KEY]
    assert (os.readlink(first), os.readlink(second)) == (KEY, f"../../{KEY}")
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert (moved / "d/e/b").read_bytes() == b"bytes"


def test_hard_links_share_one_file(tmp_path: Path) -> None:
    store = _store(tmp_path, "hardlink")
    for path in ("a", "d/b", "a"):
        put(store, b"bytes", path)
    store.close()
    assert _files(tmp_path) == ["a", "d/b", KEY]
    assert {(tmp_path / name).stat().st_ino for name in _files(tmp_path)} == {(tmp_path / KEY).stat().st_ino}
    assert list(store.keys()) == [KEY]


@pytest.mark.parametrize("links", [None, False])
def test_without_links_there_are_only_the_bytes(tmp_path: Path, links: Any) -> None:
    store = _store(tmp_path, links)
    location, _ = put(store, b"bytes", "a")
    store.close()
    assert location == tmp_path / KEY
    assert _files(tmp_path) == [KEY]
    assert store.have(Spec(URL, path="elsewhere", digests=WANTED), None) is not None
    assert store.have(Spec(URL, path="a", size=5), None) is None


@pytest.mark.parametrize("links", ["symlink", "hardlink"])
def test_bytes_that_are_there_are_had_under_a_new_path(tmp_path: Path, links: Any) -> None:
    store = _store(tmp_path, links)
    put(store, b"bytes", "a")
    found = store.have(Spec(URL, path="new/b", digests=WANTED), None)
    store.close()
    assert found is not None
    assert found.location == tmp_path / "new/b"
    assert found.location.read_bytes() == b"bytes"
    assert found.kept == store.stat(KEY)
    assert _files(tmp_path) == ["a", "new/b", KEY]


def test_a_path_is_led_to_its_new_bytes_and_the_old_ones_stay(tmp_path: Path) -> None:
    store = _store(tmp_path)
    put(store, b"old", "a")
    put(store, b"bytes", "a")
    assert (tmp_path / "a").read_bytes() == b"bytes"
    assert len(list(store.keys())) == 2
    store.close()


def test_bytes_that_rotted_are_replaced_for_every_path(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for path in ("a", "b"):
        put(store, b"bytes", path)
    (tmp_path / KEY).write_bytes(b"rotten"[:5])
    assert store.have(Spec(URL, path="a", digests=WANTED), None) is None
    put(store, b"bytes", "a")
    assert (tmp_path / "b").read_bytes() == b"bytes"
    store.close()


def test_a_part_that_was_edited_into_what_rotted_is_not_taken_for_right(tmp_path: Path) -> None:
    store = _store(tmp_path)
    put(store, b"bytes", "a")
    part = written(store, b"bytes", "b")
    before = os.stat(part.path).st_mtime_ns
    for path in (tmp_path / KEY, Path(part.path)):
        path.write_bytes(b"wrong")
    os.utime(part.path, ns=(before, before + 1))
    with pytest.raises(StoreError, match="someone else"):
        part.publish(digests_of(b"bytes"))
    part.discard()
    store.close()


class _Comparing:
    """A second part of the same bytes, whose publisher stands in the comparison with the first."""

    def __init__(self, store: FileStore, patch: pytest.MonkeyPatch, publish: Callable[[Part], Any]) -> None:
        put(store, b"bytes", "a")
        self.part = written(store, b"bytes", "b")
        (self._waiting, self._release), (entered, enter) = self._pipes = os.pipe(), os.pipe()
        pread = os.pread

        def slow(fd: int, count: int, offset: int) -> bytes:
            os.write(enter, b"!")
            os.read(self._waiting, 1)
            return pread(fd, count, offset)

        patch.setattr(os, "pread", slow)
        self.publishing = gevent.spawn(publish, self.part)
        gevent.get_hub().wait(gevent.get_hub().loop.io(entered, 1))

    def kill(self, times: int = 1) -> None:
        for _ in range(times):
            self.publishing.kill(block=False)
            gevent.sleep(0)
        assert not self.publishing.dead

    def end(self) -> Any:
        os.write(self._release, b"!!")
        self.publishing.join()
        for fd in (fd for pipe in self._pipes for fd in pipe):
            os.close(fd)
        return self.publishing.value


def test_who_is_killed_while_bytes_are_compared_learns_of_it_when_nobody_works_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    comparing = _Comparing(store, monkeypatch, lambda part: part.publish(digests_of(b"bytes")))
    comparing.kill(times=2)
    assert isinstance(comparing.end(), gevent.GreenletExit)
    comparing.part.discard()
    store.close()
    assert _files(tmp_path) == ["a", "b", KEY]


def test_a_kill_while_bytes_are_compared_waits_where_it_can_until_the_file_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(part: Part) -> Any:
        with shielded() as kills:
            location, kept = part.publish(digests_of(b"bytes"))
        return location, kept.key, [type(kill) for kill in kills]

    store = _store(tmp_path)
    comparing = _Comparing(store, monkeypatch, publish)
    comparing.kill()
    assert comparing.end() == (tmp_path / "b", KEY, [gevent.GreenletExit])
    store.close()


def test_a_kill_does_not_wait_where_nothing_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(part: Part) -> Any:
        with shielded():
            return part.publish(digests_of(b"bytes"))

    store = _store(tmp_path)
    comparing = _Comparing(store, monkeypatch, publish)
    comparing.kill()
    (tmp_path / "b").mkdir()  # took its name
    assert isinstance(comparing.end(), gevent.GreenletExit)
    comparing.part.discard()
    store.close()
    assert _files(tmp_path) == ["a", KEY]


def test_a_file_of_its_own_has_no_claim_by_path(tmp_path: Path) -> None:
    store = _store(tmp_path)
    (tmp_path / "a").write_bytes(b"bytes")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to(f"../{KEY}")
    for path in "abc":
        assert store.have(Spec(URL, path=path, size=5), None) is None
    put(store, b"bytes", "a")
    assert os.readlink(tmp_path / "a") == KEY
    store.close()


def test_a_name_that_claims_another_digest_is_not_believed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    put(store, b"bytes", "a")
    (tmp_path / KEY).write_bytes(b"other")
    assert store.have(Spec(URL, path="a", size=5), None) is None
    store.close()


def test_a_path_among_the_bytes_is_refused(tmp_path: Path) -> None:
    store = _store(tmp_path)
    with pytest.raises(StoreError, match="sha256/"):
        store.begin(attempt("sha256/ab/x"), HEAD)
    put(store, b"bytes", "a")
    assert store.have(Spec(URL, path=KEY, size=5), None) is None
    store.close()


def test_a_link_points_right_through_a_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "short").symlink_to("deep/er")
    store = _store(tmp_path)
    location, _ = put(store, b"bytes", "short/a")
    assert location.read_bytes() == b"bytes"
    assert store.have(Spec(URL, path="short/a", size=5), None) is not None
    store.close()


def test_what_took_the_place_of_bytes_is_not_taken_for_them(tmp_path: Path) -> None:
    store = _store(tmp_path)
    empty = digests_of(b"")["sha256"].hex
    (tmp_path / f"sha256/{empty[:2]}").mkdir(parents=True)
    os.mkfifo(tmp_path / f"sha256/{empty[:2]}/{empty}")
    with pytest.raises(StoreError, match="pipe"):
        put(store, b"", "a")
    store.close()


def _absolute(link: Path) -> None:
    blob = os.path.realpath(link)
    link.unlink()
    link.symlink_to(blob)


def _by_a_longer_way(link: Path) -> None:
    target = os.readlink(link)
    link.unlink()
    link.symlink_to(f"../d/{target}")


def _by_another_link(link: Path) -> None:
    link.rename(link.with_name("other"))
    link.symlink_to("other")


@pytest.mark.parametrize("made", [None, _absolute, _by_a_longer_way, _by_another_link])
def test_a_file_is_known_by_its_link_however_that_is_written(tmp_path: Path, made: Any) -> None:
    store = _store(tmp_path)
    location, kept = put(store, b"bytes", "d/a")
    if made is not None:
        made(location)
    found = store.have(Spec(URL, path="d/a", size=5), None)
    assert found is not None
    assert (found.location, found.kept) == (location, kept)
    assert found.location.read_bytes() == b"bytes"
    assert os.readlink(location) == f"../{KEY}"  # now it is as this store writes it
    store.close()


@pytest.mark.parametrize("early", [False, True], ids=["seen-as-a-link", "made-a-link-before-the-first-look"])
def test_a_file_is_known_through_a_folder_that_is_a_link(tmp_path: Path, early: bool) -> None:
    store = _store(tmp_path)
    spec = Spec(URL, path="link/a", size=5)
    if early:
        assert store.have(spec, None) is None
    (tmp_path / "real/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/er")
    put(store, b"bytes", "link/a")
    found = store.have(spec, None)
    assert found is not None
    assert found.location == tmp_path / "link/a"
    assert os.readlink(tmp_path / "real/er/a") == f"../../{KEY}"
    assert found.location.read_bytes() == b"bytes"
    store.close()


def test_a_link_that_leads_nowhere_or_elsewhere_is_no_file(tmp_path: Path) -> None:
    store = _store(tmp_path)
    put(store, b"bytes", "d/a")
    (tmp_path / "d/file").write_bytes(b"bytes")
    for name, target in (("gone", f"../sha256/00/{'00' * 32}"), ("short", KEY), ("beside", "file")):
        (tmp_path / "d" / name).symlink_to(target)
    for name in ("gone", "short", "beside", "file", "none"):
        assert store.have(Spec(URL, path=f"d/{name}", size=5), None) is None, name
    store.close()
