"""Profiles: those of a file, by name; loaded, changed, saved.

In: a path, Profiles.  Out: a mapping that a Pool takes as it is.  Never: a secret looked for, but for the keys when
something is encrypted; a change that is written before ``save``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import SpecError
from ..hubs import threads
from ..profile import Profile
from ..secret import Secret
from . import document
from .fields import Where, checked, profile_of, secret_of, table_of
from .sealing import Sealer
from .sources import ContentSource, source_of

__all__ = ["VARIABLE", "Profiles", "default_path"]

#: What names the file where nobody else does.
VARIABLE = "GEOFETCH_PROFILES"
SECTIONS = ("profiles", "sources", "fernet")
#: Of a profile's name, in bytes; records hold it in every source.
NAME_MOST = 255
#: What commands call the profile of hosts that the user did not name (cli/identity.py).
TAKEN = "stranger"


def default_path() -> str:
    """The file that is meant where none is named: ``$GEOFETCH_PROFILES``, else profiles.toml where the system keeps a
    user's settings."""
    told = os.environ.get(VARIABLE)
    if told:
        return os.path.abspath(os.path.expanduser(told))
    from platformdirs import user_config_path

    return str(user_config_path("geofetch") / "profiles.toml")


class Profiles(Mapping[str, Profile]):
    """Profiles by name, as ``Pool(profiles=…)`` takes them: ``Profiles.load()``, ``Profiles.load("profiles.toml")``.

    No secret is looked for: a Session does that when it is made.  ``sources`` are the content sources of the file, by
    name; ``keys_of_secrets`` open what stands in it encrypted, and the first of them encrypts.  What ``add`` and
    ``remove`` change, ``save`` writes: comments, order and everything else in the file stay as they are.
    """

    def __init__(self, profiles: Iterable[Profile] = (), *, path: str | os.PathLike[str] | None = None) -> None:
        self.path: str | None = None if path is None else os.path.abspath(os.path.expanduser(path))
        self.sources: dict[str, ContentSource] = {}
        self._tables: dict[str, Any] = {"profiles": {}, "sources": {}, "fernet": {}}
        self._profiles: dict[str, Profile] = {}
        self.keys_of_secrets: tuple[Secret, ...] = ()
        self._loaded = copy.deepcopy(self._tables)
        self._rotated = False
        for profile in profiles:
            self.add(profile)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, *, keys: Iterable[Secret] = ()) -> Profiles:
        """The profiles of a file; without a path those of :func:`default_path`, none if that is not there.

        ``keys`` open what is encrypted, before those that the file names: ``[Secret("env:KEY")]``, ``[Secret(call)]``.
        Raises SpecError, which names file, table and key.
        """
        found = cls(path=default_path() if path is None else path)
        assert found.path is not None
        if path is None and not os.environ.get(VARIABLE) and not os.path.exists(found.path):
            found.keys_of_secrets = tuple(keys)
            return found
        tables = document.read(found.path)
        odd = [name for name in tables if name not in SECTIONS]
        if odd:
            raise _unknown(found.path, odd[0])
        found._take({section: tables.get(section, {}) for section in SECTIONS}, tuple(keys))
        return found

    def _take(self, tables: dict[str, Any], keys: tuple[Secret, ...]) -> None:
        self._tables = tables
        self._loaded = copy.deepcopy(tables)
        told = checked(tables["fernet"], {"keys": "texts"}, self._where("fernet"))
        own = tuple(self._key(text) for text in told.get("keys", ()))
        self.keys_of_secrets = tuple(dict.fromkeys((*keys, *own)))
        for section in ("profiles", "sources"):
            if not isinstance(tables[section], Mapping):
                raise self._where(section).wrong(None, f"a table is wanted for each, as [{section}.mirror]")
        self._profiles = {name: self._made(name) for name in tables["profiles"]}
        self.sources = {
            name: source_of(name, table, self._where(f"sources.{name}")) for name, table in tables["sources"].items()
        }
        for one in self.sources.values():
            if one.profile is not None and one.profile not in self._profiles:
                raise self._where(f"sources.{one.name}").wrong("profile", f"no profile is called {one.profile!r}")

    def _key(self, text: str) -> Secret:
        found = secret_of(text, self._where("fernet"), "keys")
        if not isinstance(found, Secret) or found.kind == "fernet":
            raise self._where("fernet").wrong(
                "keys", "a key comes from outside: env:NAME, file:PATH or keyring:SERVICE/USER"
            )
        return found

    def _where(self, table: str) -> Where:
        return Where(self.path, table, os.path.dirname(self.path) if self.path is not None else None)

    def _made(self, name: str) -> Profile:
        where = self._where(f"profiles.{name}")
        try:
            _checked_name(name)
        except SpecError as exc:
            raise where.wrong(None, str(exc)) from exc
        return profile_of(name, self._tables["profiles"][name], where, self.keys_of_secrets)

    # -------------------------------------------------------------------------------------------------------- a mapping

    def __getitem__(self, name: str) -> Profile:
        return self._profiles[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._profiles)

    def __len__(self) -> int:
        return len(self._profiles)

    def named(self, name: str) -> Profile:
        """The profile of this name; a SpecError that says which there are."""
        if name not in self._profiles:
            there = ", ".join(self._profiles) or "none"
            raise SpecError(f"no profile is called {name!r} in {self.path or 'these'}; there are: {there}")
        return self._profiles[name]

    def table(self, name: str) -> dict[str, Any]:
        """What the file says of a profile, or will say; secrets in clear are in it."""
        return copy.deepcopy(dict(self._tables["profiles"][name]))

    def secrets_in_clear(self) -> list[tuple[str, str]]:
        """The secrets that stand in the file themselves: where, and what, so that nobody shows them."""
        return list(document.clear_secrets(self._tables))

    # ---------------------------------------------------------------------------------------------------------- changed

    def add(self, profile: Profile, name: str | None = None, *, replacing: bool = False) -> Profile:
        """Keep a profile by its name; the profile as it is kept.  One of that name that is there is replaced only if
        ``replacing`` says so."""
        named = _checked_name(name if name is not None else profile.name)
        if named in self._profiles and not replacing:
            raise SpecError(f"a profile is called {named!r} already; add(…, replacing=True) puts this one in its place")
        if any(secret.kind == "callable" for secret in profile.secrets.values()) or _is_code(profile.auth):
            # It serves a Pool as any other does, and has no place in a file: save says so.
            self._tables["profiles"][named] = None
            self._profiles[named] = replace(profile, name=named)
        else:
            self._tables["profiles"][named] = table_of(replace(profile, name=named))
            self._profiles[named] = self._made(named)
        return self._profiles[named]

    def add_source(self, source: ContentSource, *, replacing: bool = False) -> None:
        """Keep a content source by its name."""
        if source.name in self.sources and not replacing:
            raise SpecError(f"a content source is called {source.name!r} already")
        self._tables["sources"][_checked_name(source.name)] = source.as_table()
        self.sources[source.name] = source

    def remove(self, name: str) -> None:
        """Keep it no longer; SpecError where there is none, or a content source is asked by it."""
        self.named(name)
        users = [one.name for one in self.sources.values() if one.profile == name]
        if users:
            raise SpecError(f"the content source {users[0]!r} is asked by the profile {name!r}; remove that one first")
        del self._profiles[name], self._tables["profiles"][name]

    def remove_source(self, name: str) -> None:
        """Keep a content source no longer."""
        if name not in self.sources:
            there = ", ".join(self.sources) or "none"
            raise SpecError(f"no content source is called {name!r}; there are: {there}")
        del self.sources[name], self._tables["sources"][name]

    def sealer(self, first: Secret | None = None) -> Sealer:
        """What encrypts a secret so that it may stand in the file."""
        return Sealer(self.keys_of_secrets, first)

    def rotate(self, key: Secret | None = None, *, alone: bool = False) -> tuple[int, int]:
        """Encrypt every secret of the file by its first key, or by a new one, which becomes the first: those in clear
        (how many), and once more those that are encrypted (how many).

        The older keys stay named, and open what other copies of the file hold, unless ``alone`` drops them.
        """
        sealer = self.sealer(key)
        clear = anew = 0
        tables = dict(self._tables["profiles"])
        for name, table in tables.items():
            if table is not None:
                tables[name], first, again = sealer.sealed(table, f"[profiles.{name}]")
                clear, anew = clear + first, anew + again
        self.keys_of_secrets = sealer.keys[:1] if alone else sealer.keys
        named = [one.reference for one in self.keys_of_secrets if isinstance(one.reference, str)]
        self._rotated = True
        self._tables["profiles"], self._tables["fernet"] = tables, {"keys": named} if named else {}
        self._profiles = {name: self._profiles[name] if tables[name] is None else self._made(name) for name in tables}
        return clear, anew

    # ------------------------------------------------------------------------------------------------------------ saved

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write what was changed into the file it came from, or all into another one; its path.

        The file is replaced at once, and locked meanwhile: what others changed in it stays.  A new one is for its owner
        alone (mode 0600), and so is from now on one in which a secret stands in clear.  A SpecError, and nothing is
        written, where others changed meanwhile what secrets are encrypted by, or what a rotation was to encrypt.
        """
        target = self.path if path is None else os.path.abspath(os.path.expanduser(path))
        if target is None:
            raise SpecError("where to? save(path) says it; these profiles came from no file")
        for name, table in self._tables["profiles"].items():
            if table is None:
                table_of(self._profiles[name])  # which says why it cannot be written down
        before: Mapping[str, Any] = self._loaded if target == self.path else {}
        edits = list(document.changes(before, self._tables if target == self.path else self._from_anywhere()))
        if edits or not os.path.exists(target):
            since = (self._loaded, self._rotated) if target == self.path else None
            error = threads("profiles", 1).spawn(_outcome, target, edits, since).get()
            if error is not None:
                raise error
            self._rotated = False
        if self.path is None or target == self.path:
            self.path, self._loaded = target, copy.deepcopy(self._tables)
        return target

    def _from_anywhere(self) -> dict[str, Any]:
        """The tables with their paths in full: those of the file are relative to its own folder."""
        profiles = {name: table_of(profile) for name, profile in self._profiles.items()}
        named = [one.reference for one in self.keys_of_secrets if isinstance(one.reference, str)]
        return {**self._tables, "profiles": profiles, "fernet": {"keys": named} if named else {}}

    def __repr__(self) -> str:
        return f"Profiles({', '.join(self._profiles) or 'none'}; path={self.path!r})"


def _outcome(path: str, edits: list[document.Change], since: document.Since | None) -> Exception | None:
    # On a native thread, where another process' lock is waited for; what it raises travels as a value.
    try:
        document.write(path, edits, since)
    except Exception as exc:
        return exc
    return None


def _is_code(auth: Any) -> bool:
    from requests.auth import HTTPDigestAuth

    return callable(auth) and not isinstance(auth, HTTPDigestAuth)


def _checked_name(name: Any) -> str:
    """A name as records and manifests can have it."""
    if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
        raise SpecError(f"a profile's name is text in one line, without white space around it, not {name!r}")
    if name == TAKEN:
        raise SpecError(f"{TAKEN!r} is what geofetch calls the profile of hosts that nobody named; take another name")
    if len(name.encode()) > NAME_MOST:
        raise SpecError(f"a profile's name is at most {NAME_MOST} bytes long")
    return name


def _unknown(path: str, section: str) -> SpecError:
    import difflib

    near = difflib.get_close_matches(section, SECTIONS, 1)
    cure = f"did you mean [{near[0]}]?" if near else f"there are {', '.join(f'[{one}]' for one in SECTIONS)}"
    return SpecError(f"{path}: [{section}]: no such table; {cure}")
