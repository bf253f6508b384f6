"""The profiles that are kept in a file, as commands use them: --profiles FILE, --profile NAME, --alternate NAME.

In: flags.  Out: Profiles, Sources, ContentSources.  Never: a file read that nobody needs; a secret of it on the
console, whether it stood there in clear or was resolved.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from .work import Work

if TYPE_CHECKING:
    from ..profile_files import ContentSource, Profiles
    from ..spec import Source

__all__ = ["alternates_of", "kept_by", "open_file", "source_of"]

#: Commands in which a manifest or a record may name a profile that no flag names.
NAMED_ELSEWHERE = ("sync", "verify", "repair", "sources test")
ALL = "all"

_NAMED = re.compile(r"([^:/?#=]+)=((?:https?|file):.*)", re.DOTALL)


def kept_by(work: Work) -> Profiles:
    """The profiles of the file that is meant; none where nothing asks for any."""
    if work.kept is None:
        told = work.told
        asked = told.get("profile") or told.get("profiles_file") or told.get("alternates") or _names_one(told)
        if asked or work.name in NAMED_ELSEWHERE:
            return open_file(work)
        from ..profile_files import Profiles

        work.kept = Profiles()
    found: Profiles = work.kept
    return found


def _names_one(told: Any) -> bool:
    return any(_NAMED.fullmatch(one) for one in told.get("sources") or ())


def open_file(work: Work, new: bool = False) -> Profiles:
    """The profiles of the file that the flags name.  ``new``: one that is not there is an empty one."""
    import os

    from .. import unlock
    from ..profile_files import Profiles, default_path

    path = work.told.get("profiles_file")
    # What is resolved is hidden before anybody can say it.
    unlock.observers.append(lambda secret: work.opened_by((secret, *secret.split()[1:])))
    named = path or default_path()
    found = Profiles(path=named) if new and not os.path.exists(named) else Profiles.load(path)
    work.opened_by(secret for _, secret in found.secrets_in_clear())
    work.kept = found
    return found


def source_of(text: str) -> Source:
    """A source as it is written: a URL, with the name of the profile that asks it before it."""
    from ..spec import Source

    named = _NAMED.fullmatch(text)
    return Source(text) if named is None else Source(named[2], profile=named[1])


def alternates_of(work: Work) -> list[ContentSource]:
    """The content sources that --alternate names; a usage error where there is none of the name."""
    names = work.told.get("alternates") or ()
    if not names:
        return []
    known = kept_by(work).sources
    for name in names:
        if name != ALL and name not in known:
            there = ", ".join(known) or "none"
            raise click.UsageError(f"no content source is called {name!r} in {work.kept.path}; there are: {there}")
        if name in known and not known[name].enabled:
            raise click.UsageError(f"the content source {name!r} is not enabled: enabled = true in {work.kept.path}")
    return [one for name, one in known.items() if (name in names or (ALL in names and one.enabled))]
