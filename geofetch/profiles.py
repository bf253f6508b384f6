"""Profiles by name, and a Session for each.

In: the Session that a pool was given, Profiles by the names that sources and specs call.  Out: who asks a source.
Never: where profiles are kept; what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import SpecError
from .session import Session
from .spec import Profile, Spec

__all__ = ["Sessions"]


class Sessions:
    """A Session for each Profile: its own headers, its own identity; the connections are shared all the same."""

    def __init__(self, base: Session, profiles: Mapping[str, Profile]) -> None:
        if not isinstance(profiles, Mapping):
            raise SpecError(f"profiles is a mapping from names to Profiles, not {type(profiles).__name__}")
        for name, profile in profiles.items():
            if not isinstance(profile, Profile):
                raise SpecError(f"the profile {name!r} is no geofetch.Profile, but {type(profile).__name__}")
        self._base = base
        self._named = dict(profiles)
        self._made: dict[Profile, Session] = {}

    def __call__(self, profile: Profile | str | None) -> Session:
        if profile is None:
            return self._base
        if isinstance(profile, str):
            if profile not in self._named:
                raise SpecError(f"no profile is called {profile!r}; give it: profiles={{{profile!r}: Profile(…)}}")
            profile = self._named[profile]
        found = self._made.get(profile)
        if found is None:
            found = self._made[profile] = self._base.with_profile(profile)
        return found

    def call_nobody(self, spec: Spec) -> bool:
        """Whether nothing of a user's runs when this spec's sources are asked."""
        for source in spec.sources:
            profile = spec.profile_of(source)
            known = self._named.get(profile) if isinstance(profile, str) else profile
            if known is not None and callable(known.auth):
                return False
        return self._base.calls_nobody
