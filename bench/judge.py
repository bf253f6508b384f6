"""What a rival delivered, held against what it said.  In: jobs, the files or digests that are there, its errors.
Out: a Tally, and what in it is not as it should be.  Never: a rival's own word for what it delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .content import Job

__all__ = ["Tally", "judged", "lying"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Every file of a round is in exactly one of the first five.

    ``good``: the right bytes, and no error.  ``reported``: not there, and an error said so.  ``taken``: wrong bytes
    under the final name, and no error.  ``dropped``: not there, and no error.  ``denied``: the right bytes, and an
    error.  ``left``: of those reported, how many lie there with wrong bytes.  ``bytes``: of the good ones.
    """

    good: int = 0
    reported: int = 0
    taken: int = 0
    dropped: int = 0
    denied: int = 0
    left: int = 0
    bytes: int = 0

    def told(self) -> dict[str, int]:
        return asdict(self)


def judged(jobs: Sequence[Job], found: Callable[[Job], str | None], errors: Mapping[str, str]) -> Tally:
    """``found`` gives the SHA-256 of what is there under a job's name, None if nothing is."""
    counts = dict.fromkeys(Tally.__dataclass_fields__, 0)
    for job in jobs:
        digest, error = found(job), job.name in errors
        kind = _kind(digest is not None, digest == job.sha256, error)
        counts[kind] += 1
        counts["left"] += kind == "reported" and digest is not None
        counts["bytes"] += job.size if kind == "good" else 0
    return Tally(**counts)


def _kind(there: bool, right: bool, error: bool) -> str:
    if right:
        return "denied" if error else "good"
    if error:
        return "reported"
    return "taken" if there else "dropped"


def in_folder(folder: Path) -> Callable[[Job], str | None]:
    """The digests of what lies in a folder, read now."""

    def digest(job: Job) -> str | None:
        try:
            with open(folder / job.name, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    return digest


def lying(jobs: Sequence[Job], tally: Tally) -> str:
    """What a reader must know before any figure: how the counts differ from what is true; "" if they do not."""
    bad = sum(bool(job.fault) for job in jobs)
    said = []
    if tally.taken:
        said.append(f"{tally.taken} wrong files taken for good")
    if tally.dropped:
        said.append(f"{tally.dropped} missing without an error")
    if tally.denied:
        said.append(f"{tally.denied} good files reported as failed")
    if tally.reported > bad:
        said.append(f"{tally.reported - bad} files failed that need not")
    if not said and tally.good != len(jobs) - bad:
        said.append(f"{tally.good} of {len(jobs) - bad} files")
    return "; ".join(said)
