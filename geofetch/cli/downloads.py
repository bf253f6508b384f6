"""Specs through a Pool, every Outcome told: to people on stderr, to programs on stdout.

In: specs, a store, a Recorder.  Out: an exit code.  Never: more than a few failures kept; a failure that is not told.
"""

from __future__ import annotations

import errno
import gc
from collections import Counter
from collections.abc import Iterable, Mapping, Sized
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from . import codes
from .identity import STRANGER, profile_of, secrets_of, stranger
from .kept import kept_by
from .output import Closed, error_fields, file_fields, put
from .work import Work

if TYPE_CHECKING:
    from ..events import Outcome
    from ..pool import Pool
    from ..report import Report
    from ..spec import SpecLike

__all__ = ["Told", "download", "pool_for", "report_for", "settings", "sink_for"]

#: Objects after which the youngest are looked through.  Python's own 700 are what a dozen downloads hold on their way.
COLLECTED_AT = 10_000
#: Failures that are told one by one; the others are counted (with --json each is told).
TOLD_MOST = 100


class Told:
    """What became of the files so far; the last object of --json, whatever ends the work."""

    def __init__(self, work: Work) -> None:
        self.work = work
        work.summary = self.fields
        self.states: Counter[str] = Counter(stored=0, adopted=0, failed=0, cancelled=0)
        self.codes: Counter[int] = Counter()
        self.fetched = 0
        #: Units that left their repository; None where nobody asked for that, or not all was there.
        self.taken_off: int | None = None
        #: Files that were recorded and not fetched, by what became of them; None where nobody asked for that.
        self.wanted: Counter[str] | None = None

    def tell(self, outcome: Outcome) -> None:
        """One file has ended."""
        self.states[outcome.state] += 1
        self.fetched += outcome.fetched
        if outcome.state == "failed":
            if self.work.told.get("output") == "-" and getattr(outcome.error, "errno", None) == errno.EPIPE:
                raise Closed
            self._tell_failure(outcome)
        if self.work.as_json:
            put(file_fields(outcome, self.work.console.clean))

    def _tell_failure(self, outcome: Outcome) -> None:
        error = outcome.error
        assert error is not None
        self.codes[codes.code_of(error)] += 1
        if self.states["failed"] <= TOLD_MOST:
            tries = sum(attempt.source is not None for attempt in outcome.attempts)
            more = f" (tried {tries} times)" if tries > 1 else ""
            self.work.console.fail(f"{outcome.spec.path}: {error}{more}")
        elif self.states["failed"] == TOLD_MOST + 1:
            self.work.console.fail("more files fail; they are counted, and told one by one with --json")

    @property
    def code(self) -> int:
        """The code of all that ended."""
        return codes.of_all(self.codes)

    def fields(self, code: int) -> Mapping[str, Any]:
        """The last object of --json."""
        work = self.work
        return {
            "event": "summary",
            "command": work.name,
            "ok": code == codes.OK,
            "exit_code": code,
            "files": dict(self.states),
            "exit_codes": {str(one): count for one, count in sorted(self.codes.items())},
            "fetched_bytes": self.fetched,
            "taken_off": self.taken_off,
            "wanted": None if self.wanted is None else dict(self.wanted),
            "elapsed_s": round(work.elapsed_s, 3),
            "signal": work.signals.received,
            "error": error_fields(work.error, work.console.clean),
        }


def session_for(work: Work, urls: Iterable[str] = ()) -> Any:
    """The Session of this command, and what nobody is to be shown of it."""
    from ..session import Session

    name = work.told.get("profile")
    profile = profile_of(work.told, kept_by(work).named(name) if name else None)
    work.opened_by(secrets_of(profile, urls))
    if work.told.get("insecure"):
        import warnings

        from urllib3.exceptions import InsecureRequestWarning

        warnings.simplefilter("ignore", InsecureRequestWarning)
        work.console.say("certificates are not checked (--insecure)")
    return Session(profile)


def settings(work: Work, urls: Iterable[str] = ()) -> dict[str, Any]:
    """What the flags say to a Pool, but for where files go."""
    told = work.told
    session = session_for(work, urls)
    return {
        "session": session,
        "profiles": {**kept_by(work), STRANGER: stranger(session.profile)},
        "per_host": told.get("per_host"),
        "retries": told["retries"],
        "timeout": (told.get("connect_timeout"), told.get("timeout")),
        "deadline": told.get("deadline"),
    }


def pool_for(work: Work, store: Any, recorder: Any, report: Any, urls: Iterable[str] = ()) -> Pool:
    """The Pool that the flags ask for."""
    from ..pool import Pool

    return Pool(
        work.told["jobs"],
        store=store,
        recorder=recorder,
        progress=False if report is None else report,
        decode=bool(work.told.get("decode")),
        check=bool(work.told.get("check")),
        **settings(work, urls),
    )


def sink_for(work: Work) -> Any:
    """Where progress is told; None where nobody wants to know."""
    from ..report import Bars, JsonLines, Plain, automatic

    mode = work.told.get("progress", "none")
    if mode == "none" or (mode == "auto" and work.console.quiet):
        return None
    makers: dict[str, Any] = {"auto": lambda: automatic(command=True), "bar": Bars, "plain": Plain, "json": JsonLines}
    sink = makers[mode]()
    work.console.above = sink.say if isinstance(sink, Bars) else None
    return sink


def report_for(work: Work) -> Report | None:
    """Who counts and tells while it lasts; None where nobody wants to know."""
    from ..report import Report

    sink = sink_for(work)
    return None if sink is None else Report(sink)


def download(told: Told, specs: Iterable[SpecLike], pool: Pool, report: Report | None) -> int:
    """Fetch them all; the code of the whole."""
    from ..errors import FetchError

    work = told.work
    error: int = codes.OK
    _collect_rarely()
    if report is not None and isinstance(specs, Sized):
        report.expect(len(specs))
    with work.signals.cancelling(pool.cancel), report or nullcontext(), pool:
        try:
            for outcome in pool.imap_unordered(specs):
                told.tell(outcome)
        except FetchError as exc:  # a line of the manifest, beyond those that were read before anything was fetched
            error = work.stopped(exc)
    # Plain and JSON progress end with the sum themselves; bars are not drawn for what is short.
    if work.console.above is not None and report is not None:
        work.console.above = None
        work.console.say(report.tally().summary())
    return codes.of_all((told.code, error))


def _collect_rarely() -> None:
    """Have the garbage collector look seldom, and not at all that was imported: an eighth of a small file's CPU is its.

    This process is ours; a library has no business with it.  Cycles are rare: a download that succeeds leaves none.
    """
    gc.freeze()
    gc.set_threshold(COLLECTED_AT)
