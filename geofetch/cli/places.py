"""Where files and records are: --into DIR (or the URL of a prefix in a bucket, of a folder elsewhere), --db URL.

In: flags.  Out: a store, a Recorder, both closed at the end.  Never: a folder made by a command that only asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

if TYPE_CHECKING:
    from ..records import Recorder
    from ..store import Store

__all__ = ["asked", "names_of", "recorder_url", "recording", "root_of", "store_at", "store_of", "stores_of"]


def recorder_url(told: Mapping[str, Any]) -> str | None:
    """The database that the flags name; None for none."""
    if told.get("db"):
        return str(told["db"])
    if told.get("into"):
        if _is_url(told["into"]):
            raise click.UsageError(
                "a bucket, or a folder elsewhere, holds no records: say by --db URL where they are, as in "
                "sqlite:///units.db"
            )
        from ..names import OURS

        path = os.path.abspath(os.path.join(told["into"], OURS, "units.db"))
        return f"sqlite:///{path}"
    return None


@contextmanager
def recording(told: Mapping[str, Any]) -> Iterator[Recorder | None]:
    """The Recorder that the flags name, open for writing; None for none."""
    url = recorder_url(told)
    if url is None:
        yield None
        return
    from ..records import Recorder
    from .signals import ending

    recorder = Recorder(url, durable=bool(told.get("durable")))
    with ending(recorder.give_up), recorder:
        # Records that are to be begun in the folder of the files are begun with the first of them.
        if told.get("db") or os.path.exists(url.removeprefix("sqlite:///")):
            recorder.ready()
        yield recorder


@contextmanager
def asked(told: Mapping[str, Any]) -> Iterator[Recorder]:
    """The Recorder of a command that asks: it must be there."""
    url = recorder_url(told)
    if url is None:
        raise click.UsageError("where are the records? give --into DIR, or --db URL")
    from ..records import Recorder
    from ..records.database import located
    from .signals import ending

    address = located(url)
    # A Recorder would begin new records, and a name mistyped would look like a mirror that is verified.
    if address.is_file and not os.path.exists(address.path):
        raise click.UsageError(f"no records in {told['db'] or told['into']}: {address.path} is not there")
    recorder = Recorder(url)
    with ending(recorder.give_up), recorder:
        yield recorder


def root_of(store: str) -> str | None:
    """The folder of a FileStore by the name that records know it by; None if it is none."""
    parts = urlsplit(store)
    if parts.scheme != "file" or not parts.path.startswith("/"):
        return None
    return unquote(parts.path, errors="surrogateescape")


def names_of(recorder: Recorder, told: Mapping[str, Any]) -> list[str]:
    """The stores that are meant, by the names that records know them by: --into alone, or all that the records know."""
    from ..store import tree_for

    return [tree_for(told["into"]).name] if told.get("into") else recorder.stores()


def stores_of(recorder: Recorder, told: Mapping[str, Any]) -> dict[str, Store]:
    """The stores that are meant, by their names."""
    return {name: store_of(name, recorder, told) for name in names_of(recorder, told)}


def store_of(name: str, recorder: Recorder, told: Mapping[str, Any]) -> Store:
    """The store of this name, ready; a StoreError where it cannot be reached, or its disk seems not to be mounted."""
    from ..errors import StoreError
    from ..names import OURS
    from ..store import tree_for
    from ..store.s3 import is_s3

    root = name if _is_url(name) else root_of(name)
    if root is None:
        raise StoreError(f"{name or 'a store without a name'} is no place that a command can look into")
    # Where nothing was ever stored nothing can be missing: a folder is made when the first file comes.
    first = next(recorder.units(store=name, fetched=True), None)
    if first is not None and not _is_url(root):
        # An unmounted disk must not become ten thousand missing files.
        if not os.path.isdir(root):
            raise StoreError(
                f"{root} is not there; is its disk mounted? If all of it is gone, make the folder {root}/{OURS}"
            )
        # What a disk is mounted at is there without it, too; and a repair would fill the disk that it is on.
        if not os.listdir(root):
            raise StoreError(
                f"{root} is empty; is its disk mounted? If all of it is gone, make the folder {OURS} in it"
            )
    filed = first is not None and re.fullmatch(r"sha256/[0-9a-f]{2}/[0-9a-f]{64}", first.store_key) is not None
    store = tree_for(root, layout="digest" if filed else "path", durable=bool(told.get("durable")))
    if is_s3(name) and store.name != name:
        # Of another server's bucket of that name every file would be found missing.
        raise StoreError(
            f"the records say {name}, and $AWS_ENDPOINT_URL makes it {store.name}: unset it, or give --into"
        )
    store.ready()
    there = getattr(store, "there", None)
    if first is not None and there is not None and not there():
        raise StoreError(f"{name} is not there; is it the right server, and the right folder?")
    return store


def _is_url(place: str) -> bool:
    """Whether it is no folder of this machine's."""
    if "://" not in place:
        return False
    from ..store.elsewhere import is_elsewhere
    from ..store.s3 import is_s3

    return is_s3(place) or is_elsewhere(place)


def store_at(root: str, told: Mapping[str, Any]) -> Store:
    """The store at this folder, or this prefix in a bucket."""
    from ..store import tree_for

    return tree_for(root, layout=told.get("layout") or "path", durable=bool(told.get("durable")))
