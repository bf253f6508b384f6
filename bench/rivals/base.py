"""What a rival is, and what all of them share: how bytes are checked and kept.

In: Settings once, Batches of Jobs.  Out: what went wrong, by name of the job; files in a folder, or bodies in memory.
Never: an import of a client's library before ``open()``: some patch the whole process when they are imported.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import shutil
import ssl
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..content import Job

__all__ = ["Batch", "Keeper", "Rival", "Settings", "WrongBytes", "library", "roster", "secured"]

#: Read at once by whoever streams a large body; gives every client the same number of turns.
PIECE = 1 << 18


class WrongBytes(Exception):
    """What came is not what was wanted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a rival is to work.  ``ca``: the CA bundle, "" without TLS; ``base``: where all jobs of the case live;
    ``poll_s``: how often Nectar's scheme looks whether it is done; ``nectar``: where Nectar's code is."""

    connections: int
    base: str = ""
    ca: str = ""
    poll_s: float = 1.0
    nectar: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is fetched at once.  ``folder``: where files go, "" to keep bodies in memory; ``files``: how many."""

    jobs: list[Job]
    folder: str
    files: int


@dataclass(slots=True)
class Keeper:
    """Checks and keeps bodies the cheapest way that Python has: hash, write beside the name, close, rename.

    Bodies that stay in memory are not hashed here, since their user would not; the worker does it after the clock.
    """

    folder: str
    bodies: dict[str, bytes] = field(default_factory=dict)

    def whole(self, job: Job, body: bytes) -> None:
        """Keep a body that is in memory."""
        if not self.folder:
            self.bodies[job.name] = body
            return
        if hashlib.sha256(body).hexdigest() != job.sha256:
            raise WrongBytes(f"{len(body)} of {job.size} bytes, and another SHA-256")
        target = f"{self.folder}/{job.name}"
        file = os.open(target + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            written = os.write(file, body)
        finally:
            os.close(file)
        if written != len(body):
            raise OSError(f"{written} of {len(body)} bytes written")
        os.rename(target + ".part", target)

    def pieces(self, job: Job, pieces: Iterable[bytes]) -> None:
        """Keep a body that comes in pieces."""
        if not self.folder:
            self.bodies[job.name] = b"".join(pieces)
            return
        with self.part(job) as write:
            for piece in pieces:
                write(piece)

    def part(self, job: Job) -> Part:
        """``with keeper.part(job) as write``: a body whose pieces come by calls or by ``async for``."""
        return Part(job, f"{self.folder}/{job.name}")


class Part:
    """A body on its way; it gets its name when the block is left in peace, if its digest is right."""

    def __init__(self, job: Job, target: str) -> None:
        self._job = job
        self._target = target
        self._digest = hashlib.sha256()

    def __enter__(self) -> Callable[[bytes], None]:
        self._file = open(self._target + ".part", "wb", buffering=0)
        return self._write

    def _write(self, piece: bytes) -> None:
        self._digest.update(piece)
        if self._file.write(piece) != len(piece):
            raise OSError("a short write")

    def __exit__(self, kind: Any, *failed: object) -> None:
        self._file.close()
        right = self._digest.hexdigest() == self._job.sha256
        if kind is None and right:
            os.rename(self._target + ".part", self._target)
            return
        os.unlink(self._target + ".part")
        if kind is None:
            raise WrongBytes(f"another SHA-256 than that of the {self._job.size} bytes wanted")


class Rival(ABC):
    """One client, used as its own documents tell to use it for many files.  Subclass it, and it takes part.

    ``name``: how it is asked for and shown; without one a class is a base of others.  ``modules`` and ``commands``:
    what must be installed; the first of them is the one whose version is shown.  ``note``: what a reader of its figures
    must know.  ``extra``: it takes part only where a case names it.  ``serial``: one file at a time.  ``most``:
    connections that it can have at once, if there is a bound.
    """

    name: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    commands: ClassVar[tuple[str, ...]] = ()
    note: ClassVar[str] = ""
    extra: ClassVar[bool] = False
    serial: ClassVar[bool] = False
    most: ClassVar[int | None] = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def open(self) -> None:  # noqa: B027 - not every client has something to make, or to let go of
        """Import the library, make what is kept between batches; not timed."""

    @abstractmethod
    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        """Fetch all jobs; what failed, by name of the job.  Timed, so nothing is verified here but by the client."""

    def close(self) -> None:  # noqa: B027
        """Let go of everything; not timed."""

    def told(self) -> dict[str, Any]:
        """What else there is to say of the last batch, as the JSON of its round."""
        return {}

    @classmethod
    def missing(cls, settings: Settings) -> str:
        """What of it is not installed; "" if all is there."""
        lacking = [one for one in cls.modules if importlib.util.find_spec(one) is None]
        lacking += [one for one in cls.commands if shutil.which(one) is None]
        return ", ".join(lacking)

    @classmethod
    def version(cls) -> str:
        """Of what is measured, in its own words."""
        if cls.modules:
            return _of_module(cls.modules[0])
        return _of_command(cls.commands[0]) if cls.commands else ""


def _of_module(module: str) -> str:
    try:
        return importlib.metadata.version(module.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(library(module), "__version__", "")) if module == "geofetch" else ""


def _of_command(command: str) -> str:
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    found = [word for word in said.partition("\n")[0].split() if word[:1].isdigit()]
    return found[0] if found else ""


def library(name: str) -> Any:
    """A module by name.  Rivals import in open(), and type checkers need none of their libraries."""
    return importlib.import_module(name)


def secured(bundle: str) -> ssl.SSLContext | None:
    """The context of a client that wants one made, made once; None without TLS."""
    return ssl.create_default_context(cafile=bundle) if bundle else None


def roster() -> dict[str, type[Rival]]:
    """Every rival of this package by name, in the order of tables."""
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        importlib.import_module(f"{__package__}.{module.name}")
    found = {one.name: one for one in _below(Rival) if one.name and one.__module__.startswith(f"{__package__}.")}
    return dict(
        sorted(found.items(), key=lambda item: (not item[0].startswith("floor"), not item[0].startswith("geofetch")))
    )


def _below(base: type[Any]) -> Iterator[type[Rival]]:
    for one in base.__subclasses__():
        yield one
        yield from _below(one)
