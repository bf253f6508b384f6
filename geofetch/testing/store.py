"""What every store promises, as tests.  In: a StoreKind, as the fixture ``kind``.  Out: pass or fail.

A plugin's store is held against it by a subclass in its own test file::

    from geofetch.testing.store import HandsOver, Keeps, StoreKind

    class TestMyStore(HandsOver, Keeps):
        @pytest.fixture
        def kind(self) -> StoreKind:
            return StoreKind(lambda folder: MyStore(folder), lambda store, location: location.read_bytes())

``HandsOver`` is for every store; ``Keeps`` for one that finds again what it stored, ``Removes`` for one that can also
remove it, ``Quarantines`` for one whose quarantine a gc can empty.  Assertions tell more where the
plugin's conftest.py says ``pytest.register_assert_rewrite("geofetch.testing.store")`` first.
Never: what only one store promises.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ..digest import Digest
from ..errors import StoreError
from ..events import Attempt, Head, Kept
from ..spec import Spec
from ..store.base import Part, Removing, Store
from ..store.quarantine import Quarantining

__all__ = [
    "HEAD",
    "PATH",
    "URL",
    "HandsOver",
    "Keeps",
    "Quarantines",
    "Removes",
    "StoreKind",
    "attempt",
    "descriptors",
    "digests_of",
    "put",
    "written",
]

URL = "http://127.0.0.1:9/pool/a.bin"
PATH = "pool/a.bin"
HEAD = Head(status=200, headers={}, length=None, framed=True, encoding="", url=URL)


@dataclass(frozen=True)
class StoreKind:
    """One store to be tried: how it is made in an empty folder, and how a location is read.

    ``many``: files of different paths lie side by side.  ``by_path``: a file is found by its path alone, without a
    digest.
    """

    make: Callable[[Path], Any]
    read: Callable[[Any, Any], bytes]
    many: bool = True
    by_path: bool = True


def attempt(path: str = PATH, **wanted: Any) -> Attempt:
    """A try of a spec that goes to this path."""
    spec = Spec(URL, path=path, **wanted)
    return Attempt(spec, spec.source)


def digests_of(content: bytes, *names: str) -> dict[str, Digest]:
    """The digests of these bytes, by name of the algorithm; SHA-256 if none is named."""
    return {name: Digest(name, hashlib.new(name, content).digest()) for name in names or ("sha256",)}


def written(store: Store, content: bytes, path: str = PATH, pieces: int = 1) -> Part:
    """A part that holds these bytes, written in this many pieces."""
    part = store.begin(attempt(path), HEAD)
    step = -(-len(content) // pieces) or 1
    for start in range(0, len(content), step):
        part.write(memoryview(content)[start : start + step])
    return part


def put(store: Store, content: bytes, path: str = PATH) -> tuple[Any, Kept | None]:
    """These bytes, published under this path."""
    return written(store, content, path).publish(digests_of(content))


def descriptors() -> set[tuple[str, str]]:
    """This process's open descriptors, and what each one is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # the one that listed this folder
            continue
    return found


class _Tried:
    @pytest.fixture
    def store(self, kind: StoreKind, tmp_path: Path) -> Iterator[Any]:
        (tmp_path / "store").mkdir()
        store = kind.make(tmp_path / "store")
        store.ready()
        yield store
        store.close()


class HandsOver(_Tried):
    """From bytes to a whole file."""

    def test_it_is_a_store(self, store: Any) -> None:
        assert isinstance(store, Store)
        assert isinstance(store.name, str)
        assert store.address is None or store.address in hashlib.algorithms_available

    @pytest.mark.parametrize(
        ("content", "pieces"),
        [
            pytest.param(b"", 1, id="empty"),
            pytest.param(b"x", 1, id="one-byte"),
            pytest.param(os.urandom(9216), 1, id="one-piece"),
            pytest.param(os.urandom(300_007), 300, id="many-pieces"),
            pytest.param(os.urandom(5 << 20), 40, id="large"),
        ],
    )
    def test_what_is_published_is_what_was_written(
        self, store: Any, kind: StoreKind, content: bytes, pieces: int
    ) -> None:
        location, kept = written(store, content, pieces=pieces).publish(digests_of(content))
        assert kind.read(store, location) == content
        assert kept is None or (kept.store, kept.size) == (store.name, len(content))
        assert (kept is None) == (store.name == "")

    def test_a_second_publish_is_refused(self, store: Any, kind: StoreKind) -> None:
        part = written(store, b"once")
        location, _ = part.publish(digests_of(b"once"))
        assert kind.read(store, location) == b"once"
        with pytest.raises(StoreError, match="published"):
            part.publish(digests_of(b"once"))

    def test_nothing_is_written_after_the_end(self, store: Any, kind: StoreKind) -> None:
        published, discarded = written(store, b"one"), written(store, b"other")
        location, _ = published.publish(digests_of(b"one"))
        assert kind.read(store, location) == b"one"
        discarded.discard()
        for part in (published, discarded):
            with pytest.raises(StoreError, match="already"):
                part.write(memoryview(b"more"))
        with pytest.raises(StoreError, match="already"):
            discarded.publish(digests_of(b"other"))

    def test_a_discard_after_the_publish_takes_nothing_back(self, store: Any, kind: StoreKind) -> None:
        part = written(store, b"stays")
        location, _ = part.publish(digests_of(b"stays"))
        part.discard()
        part.discard()
        assert kind.read(store, location) == b"stays"

    def test_a_failed_try_leaves_nothing_to_the_next_one(self, store: Any, kind: StoreKind) -> None:
        failed = written(store, b"half of something else")
        failed.discard()
        failed.discard()
        location, _ = put(store, b"whole")
        assert kind.read(store, location) == b"whole"

    def test_two_parts_of_one_key_are_both_whole_and_the_last_to_publish_stays(
        self, store: Any, kind: StoreKind
    ) -> None:
        first, second = b"1" * 50_000, b"2" * 40_000
        parts = [store.begin(attempt(), HEAD) for _ in range(2)]
        for start in range(0, 50_000, 10_000):
            for part, content in zip(parts, (first, second), strict=True):
                part.write(memoryview(content)[start : start + 10_000])
        for part, content in ((parts[1], second), (parts[0], first)):
            location, _ = part.publish(digests_of(content))
            assert kind.read(store, location) == content

    def test_no_descriptor_and_no_file_is_left_over(self, kind: StoreKind, tmp_path: Path) -> None:
        folder = tmp_path / "store"
        folder.mkdir()
        before = descriptors()
        store = kind.make(folder)
        store.ready()
        written(store, b"x" * 100_000).discard()
        written(store, b"").discard()
        store.close()
        store.close()
        assert sorted(path for path in folder.rglob("*") if not path.is_dir()) == []
        assert not (folder / ".geofetch").exists()
        del store
        assert {target for _, target in descriptors() - before if str(folder) in target} == set()


class Keeps(_Tried):
    """A store that finds again what it stored."""

    def key(self, store: Any) -> str:
        (key,) = store.keys()
        return str(key)

    def test_what_is_stored_is_found_by_its_key(self, store: Any) -> None:
        _, kept = put(store, b"found again")
        key = self.key(store)
        with store.open(key) as file:
            assert file.read() == b"found again"
        seen = store.stat(key)
        assert (seen.store, seen.key, seen.size) == (store.name, key, 11)
        assert kept is None or kept == seen

    def test_what_is_not_there_is_not_found(self, store: Any) -> None:
        assert list(store.keys()) == []
        assert store.stat("no/such") is None
        for ask in (store.open, store.quarantine):
            with pytest.raises(StoreError) as caught:
                ask("no/such")
            assert caught.value.errno == errno.ENOENT

    def test_nothing_is_to_be_seen_before_the_publish(self, store: Any) -> None:
        part = written(store, b"not yet")
        assert list(store.keys()) == []
        assert store.have(Spec(URL, path=PATH, size=7, digests=tuple(digests_of(b"not yet").values())), None) is None
        part.discard()

    def test_every_key_is_listed_once(self, store: Any, kind: StoreKind) -> None:
        if kind.many:
            for number in range(600):
                put(store, b"%d" % number, f"d{number % 3}/e/{number}")
            keys = list(store.keys())
            assert len(keys) == 600
            contents = set()
            for key in keys:
                with store.open(key) as file:
                    contents.add(file.read())
            assert contents == {b"%d" % number for number in range(600)}

    def test_a_reader_keeps_the_old_bytes_while_new_ones_take_their_place(self, store: Any, kind: StoreKind) -> None:
        put(store, b"old")
        with store.open(self.key(store)) as file:
            location, _ = put(store, b"newer")
            assert file.read() == b"old"
        assert kind.read(store, location) == b"newer"

    @pytest.mark.parametrize(
        ("wanted", "proof"),
        [
            pytest.param({"size": 4}, "size", id="size"),
            pytest.param({"digests": [*digests_of(b"mine").values()]}, "digest", id="digest"),
            pytest.param({"digests": [*digests_of(b"mine", "sha256", "md5").values()]}, "digest", id="two-digests"),
            pytest.param({"size": 4, "digests": [*digests_of(b"mine").values()]}, "digest", id="both"),
        ],
    )
    def test_what_is_there_and_right_is_had(
        self, store: Any, kind: StoreKind, wanted: dict[str, Any], proof: str
    ) -> None:
        put(store, b"mine")
        for reread in (False, True):
            found = store.have(Spec(URL, path=PATH, **wanted), None, reread)
            if not kind.by_path and "digests" not in wanted:
                assert found is None
                continue
            assert found is not None
            assert (found.size, found.verified) == (4, proof)
            assert kind.read(store, found.location) == b"mine"
            assert (found.kept is None) == (store.name == "")
            known = digests_of(b"mine", "sha256", "md5")
            assert all(known[name] == digest for name, digest in found.digests.items())
            assert {digest.algorithm for digest in wanted.get("digests", ())} <= set(found.digests)
            assert store.address is None or store.address in found.digests

    @pytest.mark.parametrize(
        "wanted",
        [
            pytest.param({}, id="nothing-to-hold-it-against"),
            pytest.param({"size": 0}, id="size-zero"),
            pytest.param({"size": 5}, id="another-size"),
            pytest.param({"digests": [*digests_of(b"theirs").values()]}, id="another-digest"),
            pytest.param({"size": 4, "digests": [*digests_of(b"yours", "md5").values()]}, id="size-right-digest-wrong"),
            pytest.param(
                {"digests": [*digests_of(b"mine").values(), *digests_of(b"yours", "md5").values()]}, id="one-of-two"
            ),
        ],
    )
    def test_what_is_not_what_the_spec_wants_is_not_had(self, store: Any, wanted: dict[str, Any]) -> None:
        put(store, b"mine")
        assert store.have(Spec(URL, path=PATH, **wanted), None) is None
        assert store.have(Spec(URL, path=PATH, **wanted), None, True) is None

    def test_an_empty_file_is_a_file(self, store: Any, kind: StoreKind) -> None:
        put(store, b"")
        named: dict[str, Any] = {} if kind.by_path else {"digests": [*digests_of(b"").values()]}
        found = store.have(Spec(URL, path=PATH, size=0, **named), None)
        assert found is not None
        assert found.size == 0

    def test_what_is_in_quarantine_is_stored_no_more(self, store: Any) -> None:
        for content in (b"rotten", b"rotten"):  # the second one finds its name in quarantine taken
            put(store, content)
            store.quarantine(self.key(store))
            assert list(store.keys()) == []
            assert store.have(Spec(URL, path=PATH, size=6), None) is None

    def test_what_was_replaced_since_it_was_seen_is_not_put_aside(self, store: Any) -> None:
        put(store, b"rotten")
        seen = store.stat(self.key(store))
        store.quarantine(self.key(store), seen)
        put(store, b"right, and longer")
        with pytest.raises(StoreError) as caught:
            store.quarantine(self.key(store), seen)
        assert caught.value.errno == errno.ESTALE
        assert [*store.keys()] == [self.key(store)]

    @pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a/../../b", "", ".geofetch/units.db"])
    def test_a_key_that_leads_elsewhere_gives_nothing(self, store: Any, key: str) -> None:
        with pytest.raises((StoreError, ValueError)):
            store.open(key)


class Removes(_Tried):
    """A store that can remove what it stored."""

    def kept(self, store: Any) -> Kept:
        """The only file, as the store sees it."""
        (key,) = store.keys()
        seen: Kept = store.stat(key)
        return seen

    def test_what_is_removed_is_stored_no_more(self, store: Any) -> None:
        removes = isinstance(store, Removing)
        assert removes
        put(store, b"to go")
        kept = self.kept(store)
        assert store.remove(kept) is True
        assert store.stat(kept.key) is None
        assert list(store.keys()) == []
        with pytest.raises(StoreError) as caught:
            store.open(kept.key)
        assert caught.value.errno == errno.ENOENT

    def test_a_second_removal_finds_nothing(self, store: Any) -> None:
        put(store, b"to go")
        kept = self.kept(store)
        assert [store.remove(kept), store.remove(kept)] == [True, False]
        assert store.remove(replace(kept, key="no/such")) is False

    def test_only_what_is_meant_is_removed(self, store: Any, kind: StoreKind) -> None:
        if not kind.many:
            return
        for number in range(4):
            put(store, b"%d" % number, f"d/{number}")
        gone, *others = sorted(store.keys())
        assert store.remove(store.stat(gone))
        assert sorted(store.keys()) == others

    @pytest.mark.parametrize("changed", ["size", "mtime_ns", "inode"])
    def test_what_is_another_one_by_now_stays(self, store: Any, changed: str) -> None:
        put(store, b"not meant")
        seen = self.kept(store)
        was = getattr(seen, changed)
        if was is None:  # the store does not tell
            return
        with pytest.raises(StoreError, match="replaced") as caught:
            store.remove(replace(seen, **{changed: was + 10**9}))
        assert caught.value.errno == errno.ESTALE
        with store.open(seen.key) as file:
            assert file.read() == b"not meant"

    def test_what_is_not_told_of_a_file_is_not_asked_for(self, store: Any) -> None:
        put(store, b"of old")
        assert store.remove(replace(self.kept(store), mtime_ns=None, inode=None)) is True

    def test_the_key_takes_new_bytes_after_a_removal(self, store: Any, kind: StoreKind) -> None:
        for content in (b"the first", b"the first", b"the second"):
            location, _ = put(store, content)
            assert kind.read(store, location) == content
            assert store.remove(self.kept(store))

    def test_a_reader_keeps_the_bytes_that_are_removed(self, store: Any) -> None:
        put(store, b"being read")
        kept = self.kept(store)
        with store.open(kept.key) as file:
            assert store.remove(kept)
            assert file.read() == b"being read"

    def test_nothing_is_left_of_it(self, store: Any, kind: StoreKind, tmp_path: Path) -> None:
        put(store, b"to go", "d/e/f")
        assert store.remove(self.kept(store))
        store.close()
        assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
        assert not (tmp_path / "store" / ".geofetch").exists()

    @pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a/../../b", "", ".geofetch/units.db"])
    def test_no_key_leads_out_of_the_store(self, store: Any, key: str) -> None:
        with contextlib.suppress(StoreError, ValueError):
            assert store.remove(Kept(store.name, key, 1)) is False


class Quarantines(_Tried):
    """A store that tells what it has put aside, and can remove it."""

    def put_aside(self, store: Any, content: bytes, path: str = PATH) -> str:
        """The key that was put aside."""
        put(store, content, path)
        (key,) = store.keys()
        store.quarantine(key)
        return str(key)

    def test_what_was_put_aside_is_told_with_the_key_that_it_had(self, store: Any) -> None:
        quarantines = isinstance(store, Quarantining)
        assert quarantines
        assert list(store.asides()) == []
        keys = {self.put_aside(store, content) for content in (b"rotten", b"rotten too", b"rotten, too")}
        found = list(store.asides())
        assert sorted(one.kept.size for one in found) == [6, 10, 11]
        assert len({one.kept.key for one in found}) == 3
        for one in found:
            assert one.kept.store == store.name
            assert one.kept.key.startswith(".geofetch/quarantine/")
            assert keys & set(one.keys)
            assert one.since_ns is None or one.since_ns > 10**18

    def test_only_what_is_meant_is_removed_of_what_was_put_aside(self, store: Any) -> None:
        self.put_aside(store, b"first")
        self.put_aside(store, b"the second")
        put(store, b"right")
        first, second = sorted(store.asides(), key=lambda one: one.kept.size)
        with pytest.raises(StoreError, match="replaced") as caught:
            store.remove_aside(replace(first.kept, size=6))
        assert caught.value.errno == errno.ESTALE
        assert [store.remove_aside(first.kept), store.remove_aside(first.kept)] == [True, False]
        assert [one.kept for one in store.asides()] == [second.kept]
        assert store.remove_aside(second.kept) is True
        assert list(store.asides()) == []
        (key,) = store.keys()
        with store.open(key) as file:
            assert file.read() == b"right"
        with pytest.raises(StoreError):
            store.quarantine(key, replace(store.stat(key), size=1))
        store.quarantine(key)
        assert len(list(store.asides())) == 1

    @pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a/../../b", "", ".geofetch/quarantine/../units.db"])
    def test_no_key_leads_out_of_the_quarantine(self, store: Any, key: str) -> None:
        put(store, b"stays")
        with contextlib.suppress(StoreError, ValueError):
            assert store.remove_aside(Kept(store.name, key, 5)) is False
        assert len(list(store.keys())) == 1
