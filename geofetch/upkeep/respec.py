"""What is fetched again, and how: pure.  In: a Unit, the names of the profiles that are given, errors.  Out: a Spec,
and the sources that cannot be asked; one error for all.  Never: I/O.

What proves the file are the digests that a spec once told.  Where none did, those that were observed do: they are what
the file was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ..errors import FetchError, SourceError, SourcesExhausted, SpecError
from ..records import Unit
from ..spec import Digest, Source, Spec

__all__ = ["NO_QUERY", "in_own_words", "no_profile", "of_sources", "respec", "together"]

Failed = tuple[Source | None, BaseException]

#: What the error of a source says besides, whose query no record keeps.
NO_QUERY = "the record keeps no query of this URL, because it carried a secret: only a Profile can bring it back"


def respec(unit: Unit, profiles: Collection[str]) -> tuple[Spec | None, list[Failed]]:
    """What fetches this unit's file again, and the sources that cannot be asked; None where there is none to ask."""
    failed: list[Failed] = [
        (one, no_profile(one)) for one in unit.sources if one.profile is not None and one.profile not in profiles
    ]
    lost = [source for source, _ in failed]
    usable = tuple(one for one in unit.sources if one not in lost)
    if not usable:
        return None, failed
    proofs = tuple(one for one in unit.digests if one.algorithm in unit.trusted) or unit.digests
    try:
        # The unit itself goes along: the recorder is told in its words (in_own_words), not in these.
        return replace(_with_digests(unit, proofs, usable).spec(), meta=unit), failed
    except SpecError as exc:
        return None, [*failed, (None, exc)]


def no_profile(source: Source) -> SpecError:
    """What is said of a source whose profile was not given."""
    name = source.profile
    return SpecError(
        f"the record names the profile {name!r}, and it was not given:"
        f" geofetch.repair(…, profiles={{{name!r}: Profile(…)}}) gives it",
        source=source,
    )


def in_own_words(unit: Unit) -> Spec:
    """The spec as the record knows it: with all its sources, and no digest but those that were told."""
    told = tuple(one for one in unit.digests if one.algorithm in unit.trusted)
    return _with_digests(unit, told, unit.sources).spec()


def _with_digests(unit: Unit, digests: Sequence[Digest], sources: tuple[Source, ...]) -> Unit:
    return replace(unit, digests=tuple(digests), trusted=frozenset(), sources=sources, health=())


def together(unit: Unit, failed: Sequence[Failed], error: FetchError | None) -> FetchError:
    """One error for all sources: those that could not be asked, and (``error``) those that were."""
    if error is not None and (not failed or not of_sources(error)):
        return error
    errors = [*failed]
    if error is not None:
        errors += error.errors if isinstance(error, SourcesExhausted) else [(error.source, error)]
    if not errors:
        return SourcesExhausted("the record names no source")
    last = errors[-1][1]
    if len(errors) == 1 and isinstance(last, FetchError):
        return last
    whole = SourcesExhausted(f"all {len(unit.sources)} sources failed; the last one: {last}")
    whole.errors = tuple(errors)
    whole.spec = None if error is None else error.spec
    whole.attempts = () if error is None else error.attempts
    whole.__cause__ = last
    return whole


def of_sources(error: FetchError) -> bool:
    """Whether it says that no source has the file; not so a full disk, a cancel, the end of the time given."""
    return isinstance(error, SourceError | SourcesExhausted)
