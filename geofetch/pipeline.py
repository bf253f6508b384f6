"""The walk of one download, told in order:

    spec -> plan -> slot -> stream -> validate -> store -> record -> report

In: a Spec, and the Kit it walks with.  Out: exactly one Outcome.  Never: validation, storage, records or progress
themselves: they listen at the door (hooks.py) like everybody else, and this file says when it opens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import monotonic, time
from typing import Any, Protocol

from . import kills, limits, plan
from .ending import as_error, final, let_go, outcome_of, told_already
from .errors import Cancelled, DeadlineExceeded, FetchError, SourceError
from .events import SPEC_FACTS, Attempt, Found, Outcome, Verdict
from .hooks import NOBODY, Bound, Door, refused
from .hubs import process
from .lane import Lane
from .session import Session
from .spec import Source, Spec
from .stream import Body, Patience, Whole, host_of, opened
from .turns import pause, turn

__all__ = ["Kit", "Progress", "walk"]

log = logging.getLogger("geofetch")

#: Bytes from which the native lane is worth its hops; smaller bodies are hashed and written where they arrive.
LANE_FROM = 1 << 20


class Sessions(Protocol):
    """Which Session asks a source: the pool's own, or one for the source's profile."""

    def asking(self, spec: Spec, source: Source) -> Session: ...


@dataclass(frozen=True, slots=True)
class Kit:
    """What one pool's walks share."""

    stages: tuple[Any, ...]
    sessions: Sessions
    slots: limits.Slots
    patience: Patience = field(default_factory=Patience)
    retries: int = 3
    deadline_s: float | None = None
    decode: bool = False
    dice: plan.Dice = field(default_factory=Random)
    lane_from: int | None = LANE_FROM
    #: What the stages have to say to an attempt, and to a spec; and who can say that a file is there already.
    attempts: Door = field(init=False)
    specs: Door = field(init=False)
    havers: tuple[Callable[[Spec], Found | None], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attempts", Door(self.stages))
        object.__setattr__(self, "specs", Door(self.stages, "watch", SPEC_FACTS))
        havers = (getattr(stage, "have", None) for stage in self.stages)
        object.__setattr__(self, "havers", tuple(have for have in havers if have is not None))


class Progress:
    """How far one walk is; its pool looks at it when the walk is killed from outside."""

    __slots__ = ("attempts", "ended", "killed", "observers", "process")

    def __init__(self) -> None:
        #: Whose walk it is: a process that was forked off meanwhile has a copy of it, which must not go on.
        self.process = process()
        #: Who hears of its spec.
        self.observers = NOBODY
        self.attempts: list[Attempt] = []
        #: Its Outcome, as soon as there is one: before anybody was told.
        self.ended: Outcome | None = None
        #: The kill that came when the file was as good as published, and waited.
        self.killed: BaseException | None = None


def walk(spec: Spec, kit: Kit, progress: Progress | None = None) -> Outcome:
    """Fetch, prove, store and record one file: its Outcome, whatever happens.

    A BaseException (the kill of this greenlet, a caller's gevent.Timeout, KeyboardInterrupt) is raised again when all
    is cleaned up and ``finished`` was told; the Outcome then stands in ``progress``.
    """
    progress = progress or Progress()
    began = monotonic()
    passing_on: BaseException | None = None
    late = None
    if kit.deadline_s is not None:
        late = DeadlineExceeded(f"not done within {kit.deadline_s} s", spec=spec)
    try:
        if kit.deadline_s is None or late is None:
            ended = _walked(spec, kit, progress)
        else:
            with kills.deadline(kit.deadline_s, late):
                ended = _walked(spec, kit, progress)
        error = None
    except BaseException as exc:
        ended, error = None, let_go(told_already(exc, progress.attempts) or as_error(exc, spec))
        if not isinstance(exc, Exception):
            passing_on = exc
    outcome = progress.ended = outcome_of(spec, progress.attempts, ended, error, monotonic() - began)
    waited = progress.killed
    if isinstance(waited, kills.Expired) and waited.error is late:
        waited = None  # the file is there: a little late, and nobody is to hear of it
    passing_on = progress.observers.tell_all("finished", [], outcome) or passing_on or waited
    progress.observers = NOBODY  # who keeps a Job need not keep all that they hold
    if passing_on is not None:
        raise passing_on
    return outcome


def _walked(spec: Spec, kit: Kit, progress: Progress) -> Attempt:
    progress.observers = kit.specs.bound(spec)
    progress.observers.tell("planned")
    turn()
    return _adopted(spec, kit, progress) or _fetched(spec, kit, progress)


def never_walked(spec: Spec, kit: Kit, error: FetchError, progress: Progress | None = None) -> Outcome:
    """The Outcome of a spec that was pulled and never started; what may be raised besides is as with ``walk``."""
    progress = progress or Progress()
    observers = NOBODY
    passing_on: BaseException | None = None
    try:
        observers = kit.specs.bound(spec)
    except FetchError:
        log.exception("a stage could not watch %s, which was never started", spec.source.shown)
    except BaseException as exc:  # somebody waits for the Outcome, and there is one
        passing_on = exc
    passing_on = observers.tell_all("planned", []) or passing_on
    outcome = progress.ended = outcome_of(spec, progress.attempts, None, error, 0.0)
    passing_on = observers.tell_all("finished", [], outcome) or passing_on
    if passing_on is not None:
        raise passing_on
    return outcome


# --------------------------------------------------------------------------------------------- is it there already?


def _adopted(spec: Spec, kit: Kit, progress: Progress) -> Attempt | None:
    """A file that a store has and that is right: recorded like any other, and no source is asked."""
    for have in kit.havers:
        found: Found | None = have(spec)
        if found is None:
            continue
        attempt = _begun(spec, None, progress)
        attempt.size, attempt.verified = found.size, found.verified
        attempt.digests.update(found.digests)
        attempt.location, attempt.kept = found.location, found.kept
        hooks, began = kit.attempts.bound(attempt), monotonic()
        try:
            hooks.tell("started")
            _kept(attempt, hooks, progress)
        except BaseException as exc:
            answer = _failed(attempt, hooks, exc, began)
            if isinstance(exc, Exception) and answer is Verdict.AGAIN and progress.killed is None:
                return None  # it is not there after all: whoever says so has seen to it that the sources can be asked
            if isinstance(exc, Exception) and attempt.error is not exc and attempt.error is not None:
                raise attempt.error from exc  # what became of it
            raise
        attempt.elapsed_s = monotonic() - began
        return attempt
    return None


# ------------------------------------------------------------------------------------------------ source after source


def _fetched(spec: Spec, kit: Kit, progress: Progress) -> Attempt:
    """Ask the sources in order, some of them again, until one gives the file; else raise what the last one said."""
    sources = plan.order(_unexpired(spec), kit.dice)
    source = sources[0]
    course: plan.Course | None = None
    while True:
        attempt, answer = _attempted(spec, source, kit, progress)
        if attempt.error is None:
            return attempt
        if course is None:  # nearly every file comes at once
            course = plan.Course(sources, kit.retries)
        wait_s = course.after(attempt.error, answer, kit.dice)
        if wait_s is None or progress.killed is not None:
            raise final(spec, progress.attempts, attempt.error)
        log.info("%s; %s in %.1f s", attempt.error, "asked again" if wait_s else "the next one is asked", wait_s)
        if wait_s:
            pause(wait_s)  # no slot is held meanwhile
        source = course.source


def _unexpired(spec: Spec) -> Sequence[Source]:
    """The sources to ask; those that have expired only where there is no other."""
    if not any(source.expires_at is not None for source in spec.sources):
        return spec.sources
    found = plan.fresh(spec.sources, time())
    if found is spec.sources:
        log.warning("%s: all of its sources have expired; they are asked all the same", spec.path)
    return found


def _attempted(spec: Spec, source: Source, kit: Kit, progress: Progress) -> tuple[Attempt, Verdict | None]:
    """One source, once.  An error that another try may mend stays on the attempt, with what a hook answered to it.

    It begins with its slot: of those who wait for one there may be many, and they have nothing yet that takes memory.
    """
    with kit.slots.take(host_of(source.origin)) as slot:
        if progress.process != process():
            raise Cancelled("this process was forked off meanwhile; the download goes on in its parent")
        attempt = _begun(spec, source, progress)
        hooks, began = kit.attempts.bound(attempt), monotonic()
        try:
            try:
                hooks.tell("started")
                _streamed(attempt, kit, hooks, slot)
            finally:
                slot.leave()
            hooks.forget_bytes()
            _kept(attempt, hooks, progress)
        except BaseException as exc:
            answer = _failed(attempt, hooks, exc, began)
            if not isinstance(exc, Exception) or attempt.error is None:
                raise
            let_go(attempt.error)
            return attempt, answer
        attempt.elapsed_s = monotonic() - began
        return attempt, None


def _streamed(attempt: Attempt, kit: Kit, hooks: Bound, slot: limits.Slot) -> None:
    """The bytes of one attempt, from the first of its head to its ``received``."""
    source = attempt.source
    assert source is not None
    session = kit.sessions.asking(attempt.spec, source)
    with opened(session, source, kit.patience, decode=kit.decode, moved=slot.move) as body:
        turn()
        attempt.head = body.head
        hooks.ask("headers", body.head)
        try:
            attempt.size = _passed_on(body, hooks, kit)
        finally:
            attempt.received_bytes = body.received
        attempt.verified = "framing" if body.head.framed else "nothing"
        hooks.ask("received")


def _passed_on(body: Body | Whole, hooks: Bound, kit: Kit) -> int:
    """Every chunk to everybody who takes part, until they are through with it; how many bytes it were."""
    lane: Lane | None = None
    lane_from, length = kit.lane_from, body.head.length
    if lane_from is not None and length is not None and length >= lane_from:
        lane = _lane(body, hooks)
    size, whole = 0, False
    try:
        for chunk in body:
            size += len(chunk)
            view = memoryview(chunk)
            hooks.see(view, every=lane is None)
            if lane is not None:
                _let_go_of(view)
                _refusing(lane.put, chunk)
            elif lane_from is not None and size >= lane_from:
                # It told no length and grows: what was hashed and written so far stays, the rest goes elsewhere.
                lane = _lane(body, hooks)
        if lane is not None:
            _refusing(lane.finish)
            size += lane.drained
        whole = True
    except SourceError:
        # What came before it is right for all we know.
        if lane is not None:
            lane.flush()
        raise
    finally:
        if lane is not None:
            if not whole:
                hooks.give_up()  # first: the lane waits for its thread, which may wait for a server that is away
            lane.stop()
    return size


def _kept(attempt: Attempt, hooks: Bound, progress: Progress) -> None:
    """Published, then recorded.  Both go on without us once they have begun, so a kill waits for them: a file that is
    there and remembered was stored, and is never told as cancelled.
    """
    with kills.shielded() as waiting:
        try:
            hooks.ask("accepted")
            hooks.ask("stored", attempt.location)
        finally:
            progress.killed = waiting[0] if waiting else None


def _let_go_of(view: memoryview) -> None:
    # Its buffer will hold other bytes: who kept the view hears of it. Who made an array of it cannot be stopped.
    with suppress(BufferError):
        view.release()


def _lane(body: Body | Whole, hooks: Bound) -> Lane | None:
    """Where the next chunks land, if anybody may see them elsewhere; unseen here if nobody else wants to see them."""
    offloaded = hooks.offloaded
    if not offloaded:
        return None
    lane = body.landing = Lane(offloaded)
    body.unseen = not hooks["chunk"]
    return lane


# --------------------------------------------------------------------------------------------------- telling and asking


def _begun(spec: Spec, source: Source | None, progress: Progress) -> Attempt:
    attempt = Attempt(spec, source, len(progress.attempts) + 1)
    progress.attempts.append(attempt)
    return attempt


def _failed(attempt: Attempt, hooks: Bound, exc: BaseException, began: float) -> Verdict | None:
    """Write on an attempt that it failed, or was killed, and tell so; what a hook that mended the cause answered."""
    attempt.elapsed_s = monotonic() - began
    error = attempt.error = as_error(exc, attempt.spec)
    if error.source is None and (isinstance(error, SourceError) or type(error) is FetchError):
        error.source = attempt.source
    answers: list[Any] = []
    killed = hooks.tell_all("failed", answers, error)
    if killed is not None:
        raise killed
    return next((said for said in answers if isinstance(said, Verdict)), None)


def _refusing(hook: Callable[..., Any], *told: Any) -> None:
    """A chunk hook called; what it raises refuses the download."""
    try:
        hook(*told)
    except FetchError:
        raise
    except Exception as exc:
        raise refused(exc, "chunk") from exc
