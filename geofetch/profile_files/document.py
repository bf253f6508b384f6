"""The text of the file: read, and changed where something changed, so that comments and order stay.

In: a path, changes.  Out: tables; a SpecError that names the file.  Never: a file with secrets in clear that others may
read, or one that others may write; a half-written file; somebody else's change lost.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from .. import pipes
from ..errors import SpecError
from .fields import in_clear

__all__ = ["Change", "Since", "changes", "clear_secrets", "read", "write"]

#: Keys that lead to a value, and the value that is to stand there; None takes it away.
Change: TypeAlias = "tuple[tuple[str, ...], Any]"

#: The tables as they were read, and whether all that is encrypted in them was encrypted anew.
Since: TypeAlias = "tuple[Mapping[str, Any], bool]"

#: Tables of tables by name, as [profiles.NAME].
BY_NAME = ("profiles", "sources")

NEW = (
    "# Who geofetch is to each origin, and whom it trusts.  Secrets: env:NAME, file:PATH, keyring:SERVICE/USER,\n"
    "# fernet:... (encrypted, by a key that [fernet] keys names), plain:... (in clear, what looks like one).\n"
)


def read(path: str) -> dict[str, Any]:
    """All tables of a file."""
    try:
        mode = os.stat(path).st_mode
        data = pipes.read(path)
    except FileNotFoundError as exc:
        raise SpecError(f"{path} is not there; geofetch profiles add NAME makes it", errno=exc.errno) from exc
    except OSError as exc:
        raise SpecError(f"{path} cannot be read: {exc.strerror}", errno=exc.errno) from exc
    found = _parsed(path, data)
    if stat.S_ISREG(mode):
        _check_mode(path, mode & 0o777, found)
    return found


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise SpecError(f"{path} is no TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as exc:
        # Without its cause: later Pythons keep the whole text with it, secrets and all.
        raise SpecError(f"{path} is no TOML: {str(exc).splitlines()[0]}") from None


def clear_secrets(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The secrets that stand in the file themselves, each with the name of its place."""
    profiles = tables.get("profiles")
    for name, table in profiles.items() if isinstance(profiles, Mapping) else ():
        if isinstance(table, Mapping):
            for keys, secret in in_clear(table):
                yield f"[profiles.{name}] {'.'.join(keys)}", secret


def _check_mode(path: str, mode: int, tables: Mapping[str, Any]) -> None:
    # As ssh: a file that others may write tells nobody whom to trust, and a secret that others may read is none.
    if mode & 0o022:
        raise SpecError(f"{path} can be written by others (mode {mode:o}), so it is not used: chmod go-w {path}")
    if mode & 0o077:
        place = next((place for place, _ in clear_secrets(tables)), None)
        if place is not None:
            raise SpecError(
                f"{path} can be read by others (mode {mode:o}) and holds a secret in clear, {place}: chmod 600 {path},"
                " or give it as env:NAME, file:PATH or keyring:SERVICE/USER"
            )


# -------------------------------------------------------------------------------------------------------- changes


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """What makes the one the other, down to the keys of a named table."""
    for section in {**before, **after}:
        old, new = before.get(section, {}), after.get(section, {})
        if section not in BY_NAME:
            yield from (((section, *keys), value) for keys, value in _differences(old, new))
            continue
        for name in {**old, **new}:
            if name not in new:
                yield (section, name), None
            elif name not in old:
                yield (section, name), new[name]
            else:
                yield from (((section, name, *keys), value) for keys, value in _differences(old[name], new[name]))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            yield (key,), new.get(key)


def write(path: str, edits: Iterable[Change], since: Since | None = None) -> None:
    """Make these changes in the file; it is made if it is not there.  It is another file at once, or the old one.

    Somebody else's changes meanwhile stay, but for those of the same keys: the file is locked, read, changed, replaced.
    A SpecError where they and these would leave a secret to a key that is not named any more.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    edits = list(edits)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with _locked(folder):
            text, mode = _text(path)
            if since is not None:
                _check_keys(path, _parsed(path, text.encode()), edits, *since)
            text = _edited(path, text, edits)
            secret = any(True for _ in clear_secrets(tomllib.loads(text)))
            _replaced(path, text, 0o600 if secret else mode)
    except OSError as exc:
        if isinstance(exc, SpecError):
            raise
        raise SpecError(f"{path} cannot be written: {exc.strerror}", errno=exc.errno) from exc


def _check_keys(
    path: str, now: Mapping[str, Any], edits: Iterable[Change], read: Mapping[str, Any], rotated: bool
) -> None:
    sections = ("fernet", "profiles") if rotated else ("fernet",) if any(_sealed(value) for _, value in edits) else ()
    if any(now.get(section, {}) != read.get(section, {}) for section in sections):
        raise SpecError(f"{path} was changed by another meanwhile, and nothing is written: do it again")


def _sealed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_sealed, value.values()))
    return isinstance(value, str) and value.startswith("fernet:")


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    # The folder itself is locked: nothing is left behind, and the file may be replaced.
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _text(path: str) -> tuple[str, int]:
    try:
        if not pipes.is_file(path):
            raise SpecError(f"{path} is no file: it can be read, and not changed")
        with open(path, "rb") as file:
            return file.read().decode(), os.fstat(file.fileno()).st_mode & 0o755
    except FileNotFoundError:
        return NEW, 0o600


def _replaced(path: str, text: str, mode: int) -> None:
    aside = f"{path}.{os.getpid()}.new"
    number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(number, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(number, mode)
            os.fsync(number)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise


def _edited(path: str, text: str, edits: Iterable[Change]) -> str:
    """The text with these changes made in it; all else stands as it stood."""
    try:
        import tomlkit
    except ImportError as exc:
        raise SpecError("writing profiles wants the package tomlkit: pip install geofetch[profiles]") from exc
    wanted = _parsed(path, text.encode())
    document = tomlkit.parse(text)
    for keys, value in edits:
        _set(wanted, keys, value)
        _set_in(tomlkit, document, keys, value)
    found = tomlkit.dumps(document)
    if _pruned(tomllib.loads(found)) != _pruned(wanted):
        # A layout that is not understood well enough to be changed; nothing is lost.
        raise SpecError(f"{path} is written in a way that cannot be changed here; change it in an editor")
    return found


def _set(tables: Any, keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        tables = tables.setdefault(key, {})
    if value is None:
        tables.pop(keys[-1], None)
    else:
        tables[keys[-1]] = value


def _set_in(tomlkit: Any, document: Any, keys: tuple[str, ...], value: Any) -> None:
    if value is None:
        if keys[0] in document and (len(keys) < 3 or keys[1] in document[keys[0]]):
            _set(document, keys, None)
        return
    tables = document
    for number, key in enumerate(keys[:-1]):
        if key not in tables:
            if number == 0 and tables and not tomlkit.dumps(tables).endswith("\n\n"):
                tables.add(tomlkit.nl())
            # [profiles.a] alone, without a [profiles] above it that holds nothing.
            tables.append(key, tomlkit.table(is_super_table=number == 0 and key in BY_NAME))
        tables = tables[key]
    by_name = len(keys) == 2 and keys[0] in BY_NAME
    item = _table(tomlkit, value) if by_name else _value(tomlkit, value)
    if by_name and keys[-1] not in tables:
        if [*document][-1] != keys[0]:
            item.add(tomlkit.nl())  # what follows is another table
        tables.append(keys[-1], item)
    else:
        tables[keys[-1]] = item


def _table(tomlkit: Any, told: Mapping[str, Any]) -> Any:
    table = tomlkit.table()
    for key, value in told.items():
        table.append(key, _value(tomlkit, value))
    return table


def _value(tomlkit: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        found = tomlkit.inline_table()
        found.update(value)
        return found
    return tomlkit.string(value, multiline=True) if isinstance(value, str) and "\n" in value else value


def _pruned(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Without the sections that hold nothing."""
    return {key: value for key, value in tables.items() if value != {}}
