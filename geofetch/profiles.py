"""Profiles by name, and a Session for each.

In: the Session that a pool was given, Profiles by the names that sources and specs call.  Out: who asks a source.
Never: where profiles are kept; what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import SpecError
from .session import Session
from .spec import Profile, Source, Spec

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
        #: Those of profiles without a hash, by id; the profile is kept beside it, so that its id stays its own.
        self._by_id: dict[int, tuple[Session, Profile]] = {}
        self._bare: dict[int, Session] = {}

    def __call__(self, profile: Profile | str | None) -> Session:
        if profile is None:
            return self._base
        if isinstance(profile, str):
            if profile not in self._named:
                raise SpecError(f"no profile is called {profile!r}; give it: profiles={{{profile!r}: Profile(…)}}")
            profile = self._named[profile]
        try:
            found = self._made.get(profile)
        except TypeError:  # an auth of requests' own kind, as HTTPDigestAuth, has no hash
            return self._unhashed(profile)
        if found is None:
            # Its secrets are looked for, and others may have come here meanwhile: the first one stays.
            found = self._made.setdefault(profile, self._base.with_profile(profile))
        return found

    def _unhashed(self, profile: Profile) -> Session:
        found = self._by_id.get(id(profile))
        if found is None:
            found = self._by_id.setdefault(id(profile), (self._base.with_profile(profile), profile))
        return found[0]

    def asking(self, spec: Spec, source: Source) -> Session:
        """Who asks this source of a spec.

        A profile that is bound to other origins is told to nobody else: where the spec or the pool brings it for all
        sources, this one is asked without it; where the source itself names it, that is a SpecError.
        """
        found = self(spec.profile_of(source))
        profile = found.profile
        if profile is None or profile.origins is None or profile.allows(source.origin):
            return found
        if source.profile is not None:
            found.check_allowed(source.url)
        return self._bare.get(id(found)) or self._bare.setdefault(id(found), found.bare())

    def call_nobody(self, spec: Spec) -> bool:
        """Whether nothing of a user's runs when this spec's sources are asked."""
        for source in spec.sources:
            profile = spec.profile_of(source)
            known = self._named.get(profile) if isinstance(profile, str) else profile
            if known is not None and (callable(known.auth) or _calls_out(known)):
                return False
        return self._base.calls_nobody


def _calls_out(profile: Profile) -> bool:
    """Whether a secret in it is a user's function."""
    return any(secret.kind == "callable" for secret in profile.secrets.values())
