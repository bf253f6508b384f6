"""What is compared.  In: nothing.  Out: Cases, as a table.  Never: how they are run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .origin import Wanted

__all__ = ["CASES", "Case", "sized"]

PLAIN = Wanted()
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    ``files`` of ``sizes`` bytes over ``connections``; ``full`` is the number of files of the full run and
    ``full_size`` the size of a large one.  ``rivals``: who takes part, () for everybody who is no extra.  ``place``:
    ``memory`` or ``disk`` for files, ``bodies`` for what stays in the process.  ``faulty``: the share of files that go
    wrong.  ``fresh``: each round has a new process, so that a round's memory and connections are its own.
    """

    name: str
    title: str
    files: int
    full: int
    sizes: tuple[int, int] = (2 * KIB, 16 * KIB)
    full_size: int | None = None
    connections: int = 32
    origin: Wanted = PLAIN
    rivals: tuple[str, ...] = ()
    place: str = "memory"
    faulty: float = 0.0
    fresh: bool = False
    serial: bool = True
    rounds: int = 3
    limit_s: float = 120.0

    @property
    def ideal_s(self) -> float | None:
        """The wall of a client that costs nothing, where the origin waits: files / connections x latency."""
        return self.files / self.connections * self.origin.delay_s if self.origin.delay_s else None

    @property
    def large(self) -> bool:
        return self.sizes[1] > MIB

    @property
    def flood(self) -> bool:
        """Whether there is no origin at all."""
        return self.place == "nowhere"


_GEOFETCH = ("geofetch", "geofetch-unrecorded")
_SESSIONS = ("geofetch-session", "requests-gevent")

CASES = {
    case.name: case
    for case in (
        Case("small", "many small files, 2 to 16 KiB", 1_000, 2_000),
        Case(
            "large",
            "few large files, to disk",
            2,
            2,
            (256 * MIB, 256 * MIB),
            full_size=GIB,
            connections=2,
            place="disk",
            fresh=True,
            rounds=1,
            limit_s=600,
        ),
        Case("https", "small files over kept HTTPS connections", 300, 2_000, origin=Wanted("https"), rounds=2),
        Case("https-new", "a new HTTPS connection for each file", 100, 200, origin=Wanted("https_new"), rounds=1),
        Case(
            "latency-50",
            "50 ms latency, 100 connections",
            1_000,
            10_000,
            connections=100,
            origin=Wanted(delay_s=0.05),
            fresh=True,
            serial=False,
            rounds=1,
        ),
        Case(
            "latency-500",
            "500 ms latency, 1,000 connections",
            2_000,
            20_000,
            connections=1_000,
            origin=Wanted(delay_s=0.5),
            fresh=True,
            serial=False,
            rounds=1,
            limit_s=30,
        ),
        Case(
            "failures",
            "one file in ten goes wrong: 404, 500, reset, cut short, wrong bytes; no retries",
            500,
            2_000,
            origin=Wanted(faults=True),
            faulty=0.1,
            rounds=1,
        ),
        Case("records", "with and without records, in memory", 2_000, 10_000, rivals=_GEOFETCH),
        Case(
            "durable",
            "durable or not, with and without records, on disk",
            1_000,
            10_000,
            rivals=(*_GEOFETCH, "geofetch-durable", "geofetch-durable-unrecorded"),
            place="disk",
        ),
        Case(
            "session", "Session().get from 32 greenlets, nothing stored", 2_000, 2_000, rivals=_SESSIONS, place="bodies"
        ),
        Case(
            "session-serial",
            "Session().get, one after the other, nothing stored",
            2_000,
            2_000,
            connections=1,
            rivals=_SESSIONS,
            place="bodies",
        ),
        Case(
            "flood",
            "specs without a network, into a store that drops them",
            20_000,
            1_000_000,
            rivals=("geofetch-flood",),
            place="nowhere",
            fresh=True,
            rounds=1,
            limit_s=3600,
        ),
    )
}


def sized(
    case: Case, *, full: bool = False, files: int | None = None, size: int | None = None, rounds: int | None = None
) -> Case:
    """The case as a run wants it."""
    if full:
        case = replace(case, files=case.full, limit_s=max(case.limit_s, 1800.0))
        if case.full_size is not None:
            case = replace(case, sizes=(case.full_size, case.full_size))
    if case.large and size is not None:
        case = replace(case, sizes=(size, size))
    if files is not None:
        case = replace(case, files=files)
    if rounds is not None:
        case = replace(case, rounds=rounds)
    return case
