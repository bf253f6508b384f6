"""Removal from a FileStore: links, folders, files that others put there, and what a removal that was killed left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geofetch.errors import StoreError
from geofetch.events import Kept
from geofetch.store import FileStore, OneFile, removal
from geofetch.testing.store import put


def stored(store: FileStore, content: bytes, path: str) -> Kept:
    kept = put(store, content, path)[1]
    assert kept is not None
    return kept


def link_of(kept: Kept, path: str) -> Kept:
    """What a gc says of the link to a file: that it is at another key."""
    return replace(kept, key=path)


@pytest.mark.parametrize("links", ["symlink", "hardlink"])
def test_a_link_goes_and_its_file_stays(links: Any, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "srv", layout="digest", links=links)
    assert store.linked
    first, second = (stored(store, b"shared", path) for path in ("a/one", "b/two"))
    assert first == second
    assert store.remove(link_of(first, "a/one")) is True
    assert store.remove(link_of(first, "a/one")) is False
    assert not (store.root / "a").exists()
    assert (store.root / "b" / "two").read_bytes() == b"shared"
    assert store.stat(first.key) == first
    store.close()


def test_a_link_goes_though_its_file_is_gone(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "srv", layout="digest")
    kept = stored(store, b"alone", "a/one")
    assert store.remove(kept)
    assert (store.root / "a" / "one").is_symlink()
    assert store.remove(link_of(kept, "a/one"))
    assert not os.path.lexists(store.root / "a")
    store.close()


@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_link_of_somebody_elses_stays(layout: Any, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "srv", layout=layout)
    kept = stored(store, b"ours", "ours")
    (tmp_path / "theirs").write_bytes(b"ours")
    (store.root / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="replaced"):
        store.remove(link_of(kept, "link"))
    assert (store.root / "link").read_bytes() == b"ours"
    store.close()


def test_folders_go_as_far_as_they_are_empty_and_never_the_root(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "srv")
    one, other = stored(store, b"1", "a/b/c/one"), stored(store, b"2", "a/other")
    assert store.remove(one)
    assert not (store.root / "a" / "b").exists()
    assert store.remove(other)
    assert store.root.is_dir()
    store.close()
    assert os.listdir(store.root) == []


@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_store_that_was_at_work_makes_a_folder_anew_that_a_removal_took(layout: Any, tmp_path: Path) -> None:
    worker, remover = FileStore(tmp_path / "srv", layout=layout), FileStore(tmp_path / "srv", layout=layout)
    kept = stored(worker, b"1", "a/b/one")
    assert remover.remove(kept)
    if layout == "digest":
        assert remover.remove(link_of(kept, "a/b/one"))
    assert not (worker.root / "a").exists()
    stored(worker, b"2", "a/b/two")
    assert (worker.root / "a" / "b" / "two").read_bytes() == b"2"
    worker.close()
    remover.close()


def between(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], Any]) -> None:
    """Let this happen right before the call of the system by which a removal goes on."""
    call = getattr(os, name)

    def late(*args: Any, **more: Any) -> Any:
        monkeypatch.undo()
        happens()
        return call(*args, **more)

    monkeypatch.setattr(removal.os, name, late)


def test_a_file_that_comes_between_the_look_and_the_removal_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "srv")
    kept = stored(store, b"old", "a/one")
    between(monkeypatch, "rename", lambda: stored(store, b"newer", "a/one"))
    with pytest.raises(StoreError, match="replaced") as caught:
        store.remove(kept)
    assert caught.value.errno == errno.ESTALE
    assert (store.root / "a" / "one").read_bytes() == b"newer"
    store.close()
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["one"]


def test_a_file_that_comes_while_another_one_is_put_back_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "srv")
    kept = stored(store, b"old", "a/one")

    def twice() -> None:
        stored(store, b"newer", "a/one")
        between(monkeypatch, "link", lambda: stored(store, b"the newest", "a/one"))

    between(monkeypatch, "rename", twice)
    with pytest.raises(StoreError, match="replaced"):
        store.remove(kept)
    assert (store.root / "a" / "one").read_bytes() == b"the newest"
    store.close()
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["one"]


def test_what_a_removal_that_was_killed_left_is_swept_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "srv")
    kept = stored(store, b"half gone", "a/one")
    between(monkeypatch, "unlink", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.remove(kept)
    assert store.stat("a/one") is None
    assert store.sweep(0) == 0  # it may be a living process's
    monkeypatch.setattr(removal, "DEAD_S", 0.0)
    assert store.sweep(0) == 1
    store.close()
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_target_that_is_one_file_is_removed_and_nothing_is_left(tmp_path: Path) -> None:
    store = OneFile(tmp_path / "one.bin")
    kept = stored(store, b"1", "any")
    assert store.remove(kept)
    store.close()
    assert os.listdir(tmp_path) == []
