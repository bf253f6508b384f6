"""``geofetch sync``: all that a manifest lists, into a folder that remembers it.

In: a manifest (a file, a URL, stdin).  Out: a folder of proven files with a record of each.  Never: a file outside the
folder; a word of who we are to hosts that only a manifest from the network has named.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Listing
    from ..spec import Spec
    from .downloads import Told

__all__ = ["sync"]

#: A manifest that is fetched may be so long; a line is about 100 bytes.
MANIFEST_BYTES = 1 << 28
#: So many lines are read and checked before anything is fetched; a longer manifest is read on as it is needed.
CHECKED_FIRST = 20_000
#: Signals are heard after so many lines.
BREATH = 500


@click.command(short_help="Fetch all that a manifest lists.")
@click.argument("manifest", metavar="MANIFEST")
@options.places("Store in this folder.")
@click.option("--base", metavar="URL", help="Names in the manifest are relative to this.  [default: its own URL]")
@click.option("--format", "format", metavar="NAME", help="urls, checksums, jsonl, pulp …  [default: it tells]")
@click.option("--algorithm", metavar="ALGO", help="That of checksums whose lines do not tell.")
@click.option(
    "--alternate",
    "alternates",
    multiple=True,
    metavar="NAME",
    help="Ask this content source of the profiles file first, for files with a digest; all for every enabled one.",
)
@options.storing()
@click.option(
    "--policy",
    type=click.Choice(["immediate", "on_demand", "streamed"]),
    help="When the files are fetched; but for immediate nothing is fetched now.  [default: immediate for new ones]",
)
@click.option(
    "--later", is_flag=True, help="Fetch nothing now: what is listed is owed, and geofetch repair fetches it."
)
@click.option("--mirror", is_flag=True, help="Take off the repository what the manifest does not list any more.")
@options.download()
@options.identity()
@options.progress()
@options.json_flag("Tell of each file on stdout as it ends, in JSON, and last of the whole.")
@options.verbosity()
def sync(**given: Any) -> int:
    """Fetch all that a manifest lists into a folder, and remember where each file is, and how to prove it again.

    MANIFEST is a file, a URL, or - for stdin: a list of URLs, a file as sha256sum writes it, JSON lines, or a
    PULP_MANIFEST.  Its signature, if it has one, is not checked.

    A file that is there and right is not fetched again; where neither a digest nor a size is told (a list of URLs),
    nothing says that it is right, and it is fetched.  What --header, --user and --cert say goes to the hosts you
    name (the manifest's and --base); to others only if the manifest is a file of yours, or comes by stdin.

    With --policy on_demand or streamed, and with --later, what is listed is recorded with all its sources and proofs,
    and nothing is fetched.  A file that is stored already stays as it is, and one that is stored in another version
    than is listed is told: a sync without these fetches it.

    With --mirror, units of the repository that the manifest does not list leave it, once all that it lists is there;
    their files and records stay, until geofetch units gc removes them.
    """
    told = options.told(**given)
    if not told["into"]:
        raise click.UsageError("where to? give --into DIR")
    if told["mirror"] and not told["repository"]:
        raise click.UsageError("--mirror takes off a repository what is not listed: which one? give --repository NAME")
    if told["later"] and told["policy"] not in (None, "immediate"):
        raise click.UsageError(f"--later is for files that are not {told['policy']}: give one of the two")
    return perform("sync", told, _sync)


def _sync(work: Work) -> int:
    from .downloads import Told, download, pool_for, report_for
    from .places import recording, store_at
    from .wanting import want, wanted_now

    told, total = work.told, Told(work)
    named = [url for url in (told["manifest"], told["base"]) if url is not None]
    with _opened(work) as manifest:
        specs = _read(work, manifest)
        store = store_at(told["into"], told)
        try:
            with recording(told) as recorder:
                assert recorder is not None
                listing = recorder.listing(told["repository"], store.name) if told["mirror"] else None
                listed = specs if listing is None else listing(specs)
                if told["later"] or told["policy"] in ("on_demand", "streamed"):
                    code = want(total, listed, recorder, store.name)
                else:
                    if specs != []:
                        # One that cannot be used at all is told once, and nothing is fetched for it.
                        store.ready()
                    report = report_for(work)
                    if told["policy"] is not None:
                        listed = wanted_now(listed, recorder, store.name)
                    code = download(total, listed, pool_for(work, store, recorder, report, named), report)
                if listing is not None:
                    _take_off(total, listing, code)
        finally:
            store.close()
    if specs == []:
        work.console.say(f"{told['manifest']}: it lists no files")
    return code


def _take_off(total: Told, listing: Listing, code: int) -> None:
    """What the manifest does not list leaves the repository, if all that it lists is there."""
    work = total.work
    from ..errors import SpecError

    if code != codes.OK or work.signals.received is not None:
        work.console.say(f"not all that is listed is there: nothing is taken off {listing.repository!r}")
        return
    if not len(listing):
        # A listing that lost all it had is a mistake more often than a wish: whoever means it says so in other words.
        raise SpecError(
            f"the listing of {listing.repository!r} is empty; nothing is taken off: if all of it is to go, say"
            f" geofetch repositories remove {shlex.quote(listing.repository)}"
        )
    total.taken_off = listing.take_off()
    work.console.say(
        f"{counted(total.taken_off, 'unit', 'are')} not listed any more, and taken off {listing.repository!r}"
    )


@contextmanager
def _opened(work: Work) -> Iterator[Any]:
    """The manifest as the readers take it; closed at the end."""
    from ..manifest.place import is_url
    from ..pipes import opened

    name = work.told["manifest"]
    if name == "-":
        yield _stdin()
    elif is_url(name):
        with _fetched(work, name) as file:
            yield file
    else:
        try:
            file = opened(name)
        except OSError as exc:
            raise click.UsageError(f"the manifest {name!r} cannot be read: {exc.strerror}") from exc
        with file:
            yield file


def _stdin() -> Iterator[bytes]:
    from ..manifest import split

    return iter(split(_blocks(0)))


def _blocks(number: int) -> Iterator[bytes]:
    # Waited for in the hub: downloads go on while whoever writes the list thinks about its next line.
    from gevent.socket import wait_read

    while True:
        wait_read(number)
        block = os.read(number, 65536)
        if not block:
            return
        yield block


def _fetched(work: Work, url: str) -> Any:
    """The manifest at a URL, as a temporary file: the same engine, the same settings, no record."""
    from ..errors import BadResponse, TooLarge
    from ..pool import fetch
    from ..spec import Spec
    from .downloads import settings

    size = 0

    def on_chunk(attempt: Any, view: memoryview) -> None:
        nonlocal size
        size += len(view)
        if size > MANIFEST_BYTES:
            raise TooLarge(f"a manifest of more than {MANIFEST_BYTES} bytes: is it one?", source=attempt.source)

    def on_started(attempt: Any) -> None:
        nonlocal size
        size = 0

    hooks = {"started": on_started, "chunk": on_chunk}
    spec = Spec(url, path="manifest")
    outcome = fetch(spec, hooks=hooks, decode=bool(work.told["decode"]), **settings(work, [url]))
    if work.told["mirror"] and outcome.verified == "nothing":
        outcome.location.close()
        # It may end in its middle, and --mirror would take the rest of it off.
        raise BadResponse(
            "the manifest came without a length, and whether all of it came cannot be told: nothing is fetched, and"
            " nothing taken off; leave --mirror out, or save it and name the file",
            source=outcome.source,
        )
    return outcome.location


def _read(work: Work, manifest: Any) -> Iterable[Spec]:
    """The specs of the manifest: a list where it is not too long, and then all of it is right."""
    from .. import manifest as formats
    from ..manifest.place import is_url
    from .identity import STRANGER, among_strangers
    from .kept import alternates_of, kept_by

    told = work.told
    name = told["manifest"]
    specs: Iterator[Spec] = formats.read(
        manifest,
        base=told["base"],
        name=None if name == "-" else name,
        format=told["format"],
        algorithm=told["algorithm"],
        repository=told["repository"],
    )
    if is_url(name) and not name.startswith("file:"):
        named = [url for url in (name, told["base"]) if url is not None]
        specs = among_strangers(specs, named, kept_by(work))
    alternates = alternates_of(work)
    if alternates:
        from ..profile_files.sources import with_alternates

        specs = (with_alternates(spec, alternates, STRANGER) for spec in specs)
    return specs if name == "-" else _checked(specs)


def _checked(specs: Iterator[Spec]) -> Iterable[Spec]:
    import gevent

    first: list[Spec] = []
    for spec in specs:
        first.append(spec)
        if len(first) % BREATH == 0:
            gevent.sleep(0)
        if len(first) > CHECKED_FIRST:
            return chain(first, specs)
    return first
