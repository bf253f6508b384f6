"""``geofetch get``: a file, or a few, by URL.

In: URLs, and where they go.  Out: the files; nothing else is left, unless --into or --db asks for records.  Never: a
file that is not whole, proven where a digest or a size was told.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from . import options
from .work import Work, perform

if TYPE_CHECKING:
    from ..spec import Spec

__all__ = ["get"]


@click.command(short_help="Fetch files by URL.")
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", help="Write to this file (or into this folder); - is stdout.")
@click.option("-d", "--dir", "folder", metavar="DIR", help="Write into this folder.  [default: the current one]")
@click.option("--digest", "digests", multiple=True, metavar="ALGO:HEX", help="What the file must have; all must hold.")
@click.option("--size", type=click.IntRange(min=0), metavar="BYTES", help="How many bytes the file must have.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="[PROFILE=]URL",
    help="A further place that the file can come from; PROFILE=URL says who asks it.",
)
@options.places("Store in this folder, and remember it in records there.")
@options.storing()
@options.download()
@options.identity()
@options.progress()
@options.json_flag("Tell of each file on stdout as it ends, in JSON, and last of the whole.")
@options.verbosity()
def get(**given: Any) -> int:
    """Fetch files by URL, each whole and proven or not at all.

    A file that is there already is kept where --digest or --size proves that it is the right one; any other is
    replaced, in one step, when the new one is complete.  Nothing but the files is left, unless --into or --db asks for
    records.
    """
    told = _checked(options.told(**given))
    return perform("get", told, _get)


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    for flag in ("output", "digests", "size", "sources"):
        if len(told["urls"]) > 1 and told[flag] not in (None, ()):
            raise click.UsageError(f"--{flag.removesuffix('s')} is for one file, and several URLs are given")
    if told["output"] is not None and told["folder"] is not None:
        raise click.UsageError("-o names the file, -d only its folder: give one of them")
    if told["into"] and told["folder"] is not None:
        raise click.UsageError("--into is a folder already; leave -d out, or name a path below it by -o")
    if told["output"] == "-" and (told["as_json"] or told["into"] or told["db"]):
        raise click.UsageError("-o - writes the file to stdout: neither --json nor records go with it")
    if told["repository"] is not None and not (told["into"] or told["db"]):
        raise click.UsageError("--repository is for the records: give --into DIR, or --db URL")
    if told["layout"] != "path" and not told["into"]:
        raise click.UsageError("--layout is for a folder with records: give --into DIR")
    return told


def _get(work: Work) -> int:
    from .downloads import Told, download, pool_for, report_for
    from .kept import source_of
    from .places import recording

    told, total = work.told, Told(work)
    specs = _specs(told)
    store = _store(told)
    report = report_for(work)
    try:
        with recording(told) as recorder:
            urls = (*told["urls"], *(source_of(one).url for one in told["sources"]))
            pool = pool_for(work, store, recorder, report, urls)
            return download(total, specs, pool, report)
    finally:
        store.close()


def _specs(told: Mapping[str, Any]) -> list[Spec]:
    from ..spec import Spec
    from .kept import source_of

    specs = [
        Spec(
            url,
            sources=tuple(map(source_of, told["sources"])),
            path=told["output"] if told["into"] else None,
            size=told["size"],
            digests=told["digests"] or None,
            repository=told["repository"],
        )
        for url in told["urls"]
    ]
    seen: set[str] = set()
    for spec in specs:
        if spec.path in seen:
            raise click.UsageError(f"two URLs end in the same name, {spec.path!r}; fetch them one by one, by -o")
        seen.add(spec.path)
    return specs


def _store(told: Mapping[str, Any]) -> Any:
    from ..store import store_for
    from .places import store_at

    if told["into"]:
        return store_at(told["into"], told)
    if told["output"] == "-":
        return store_for(sys.stdout.buffer)
    to = told["output"] if told["output"] is not None else f"{told['folder'] or '.'}/"
    return store_for(to, durable=told["durable"])
