"""A store, its records and the sources of its files, and ways to harm them; what the tests of upkeep stand on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import geofetch
from geofetch import FileStore, Pool, Recorder, Source, Spec
from geofetch.records import Unit
from geofetch.transport import shared
from tests.support.mirrors import Handle, Mirror
from tests.support.servers import Place

Harm = Callable[[Path], None]


class Ground:
    """A FileStore under ``root`` and a Recorder; ``content`` is what every file should be, by its name."""

    def __init__(self, folder: Path, mirror: Mirror, layout: Any = "path", place: Place | None = None) -> None:
        self.mirror = mirror
        self.root = folder / "srv"
        self.store = FileStore(self.root, layout=layout)
        self.place = place or Place("sqlite", f"sqlite:///{folder}/units.db")
        self.url = self.place.url
        self.recorder = Recorder(self.url)
        self.content: dict[str, bytes] = {}
        self.random = Random(24)

    def bytes(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def stock(
        self,
        content: dict[str, bytes],
        *sources: Callable[[str, bytes], Any],
        prove: bool = True,
        **spec: Any,
    ) -> dict[str, Handle]:
        """Sync these files from a first source of the mirror's; ``sources`` make others, which the records know too."""
        handles = {name: self.mirror.serves(body) for name, body in content.items()}
        specs = [
            Spec(
                sources=[Source(handles[name].url, priority=0), *(make(name, body) for make in sources)],
                path=name,
                digests=f"sha256:{_sha256(body)}" if prove else None,
                **spec,
            )
            for name, body in content.items()
        ]
        with Pool(4, store=self.store, recorder=self.recorder, progress=False) as pool:
            assert [outcome.state for outcome in pool.map(specs)] == ["stored"] * len(specs)
        self.content.update(content)
        return handles

    def files(self, number: int, size: int = 3000) -> dict[str, bytes]:
        """So many files of random bytes."""
        return {f"pool/{at:03}.rpm": self.bytes(size + at) for at in range(number)}

    def unit(self, name: str) -> Unit:
        found = self.recorder.unit(name)
        assert found is not None
        return found

    def path(self, name: str) -> Path:
        """Where the bytes of this file are."""
        return self.root / self.unit(name).store_key

    def states(self) -> dict[str, str]:
        return {unit.path: unit.state for unit in self.recorder.units()}

    def verify(self, **asked: Any) -> geofetch.upkeep.Findings:
        return geofetch.verify(self.recorder, self.store, **asked)

    def repair(self, **asked: Any) -> geofetch.upkeep.Repaired:
        return geofetch.repair(self.recorder, self.store, **{"size": 4, "retries": 0, **asked})

    def harm(self, names: Iterable[str], harm: Harm) -> list[str]:
        """Do this to the files; their names, in order."""
        harmed = sorted(names)
        for name in harmed:
            harm(self.path(name))
        return harmed

    def assert_whole(self, names: Iterable[str] | None = None) -> None:
        """Every file is there, byte for byte, under its name."""
        for name in self.content if names is None else names:
            assert (self.root / name).read_bytes() == self.content[name], name

    def close(self) -> None:
        self.recorder.close()
        self.store.close()
        shared().close()  # idle connections are kept on purpose; here they are left over


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def flipped(random: Random) -> Harm:
    """One bit is another one, and nothing else tells: as a disk rots."""

    def flip(path: Path) -> None:
        seen = path.stat()
        body = bytearray(path.read_bytes())
        body[random.randrange(len(body))] ^= 1 << random.randrange(8)
        with path.open("r+b") as file:
            file.write(body)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    return flip


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def deleted(path: Path) -> None:
    path.unlink()


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a process opens once and keeps, such as the pipes of its native threads, is open before anybody counts."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "a").write_bytes(b"hello")
    store = FileStore(folder / "srv")
    with Recorder(f"sqlite:///{folder}/units.db") as recorder:
        with Pool(1, store=store, recorder=recorder, check=True, progress=False) as pool:
            for _ in range(2):
                pool.map([Spec(f"file://{folder}/a", size=5)])
        geofetch.verify(recorder, store)
    store.close()


@pytest.fixture
def ground(warm: None, tmp_path: Path, mirror: Mirror, database: Place) -> Iterator[Ground]:
    made = Ground(tmp_path, mirror, place=database)
    yield made
    made.close()


@pytest.fixture(params=["path", "digest"])
def any_ground(request: pytest.FixtureRequest, warm: None, tmp_path: Path, mirror: Mirror) -> Iterator[Ground]:
    """The same in both layouts."""
    made = Ground(tmp_path, mirror, request.param)
    yield made
    made.close()
