"""The files that are fetched.  In: how many, how large.  Out: a folder that an origin serves, and the Jobs that name
them with their proof.  Never: the same bytes twice, bytes that differ from one run to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

#: Written at once; larger files are made of such blocks.
BLOCK = 1 << 20
#: What can be wrong with an answer of our own origin; a job of such a name has no good end but a reported error.
FAULTS = ("404", "500", "reset", "truncated", "wrong")


@dataclass(frozen=True, slots=True)
class Job:
    """One file to fetch: its URL, the name it shall have, what proves it.  ``fault``: what the origin does to it."""

    name: str
    url: str
    size: int
    sha256: str
    fault: str = ""

    @property
    def large(self) -> bool:
        """Whether nobody should hold it in memory as a whole."""
        return self.size > BLOCK

    def at(self, base: str) -> Job:
        return replace(self, url=base + self.url)

    def told(self) -> dict[str, str | int]:
        return asdict(self)


def small(folder: Path, files: int, sizes: tuple[int, int], faulty: int = 0) -> list[Job]:
    """``files`` files of ``sizes`` bytes at random; the last ``faulty`` of them go wrong, each in the next way."""
    dice = Random(20_000 + files)
    jobs = []
    for number in range(files):
        left = files - number
        fault = FAULTS[left % len(FAULTS)] if left <= faulty else ""
        body = dice.randbytes(dice.randint(*sizes))
        jobs.append(_written(folder, f"{number:06}{'-' + fault if fault else ''}.bin", [body], fault))
    # Where all failures came last, a client that gives up on a host would not be seen giving up.
    dice.shuffle(jobs)
    return jobs


def large(folder: Path, files: int, size: int) -> list[Job]:
    """``files`` files of ``size`` bytes each."""
    return [_written(folder, f"large-{number}.bin", _blocks(number, size)) for number in range(files)]


def _blocks(seed: int, size: int) -> Iterator[bytes]:
    block = bytearray(Random(seed).randbytes(BLOCK))
    for start in range(0, size, BLOCK):
        block[:8] = start.to_bytes(8, "big")  # no two blocks are alike: a block out of place is a wrong digest
        yield bytes(block[: min(BLOCK, size - start)])


def _written(folder: Path, name: str, blocks: Sequence[bytes] | Iterator[bytes], fault: str = "") -> Job:
    digest, size = hashlib.sha256(), 0
    with open(folder / name, "wb") as file:
        for block in blocks:
            digest.update(block)
            size += len(block)
            file.write(block)
    return Job(name, f"/{name}", size, digest.hexdigest(), fault)
