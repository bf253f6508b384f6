"""The door through which everything takes part in a download: ours and the user's alike.

In: stages, and an attempt or a spec to bind them to; then facts.  Out: whoever listens is told, in the order of the
stages, and may refuse or only observe, as he is asked or told.  Never: what the facts mean, or their order in time;
pipeline.py tells that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import getattr_static
from types import FunctionType, MethodType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .errors import FetchError, SpecError
from .events import ATTEMPT_FACTS, FACTS, Attempt, Listener
from .spec import Spec

__all__ = ["NOBODY", "Bound", "Door", "Plain", "Stage", "checked", "plain", "refused"]

log = logging.getLogger("geofetch")

Hook: TypeAlias = Callable[..., Any]
Hooks: TypeAlias = Mapping[str, Hook]


@runtime_checkable
class Stage(Protocol):
    """Something that takes part in downloads.

    ``bind(attempt)`` gives the hooks of one attempt, by fact, or None; whatever they remember lives in their closure,
    or in the Listener that they are methods of, so that nothing is left over from a failed try and nothing is shared by
    two downloads.  Three more members are optional:

    ``watch(spec)`` gives the hooks ``planned`` and ``finished`` of one spec.
    ``have(spec)`` gives a Found if the file is there already and right: asked before any source is.
    ``offload = True`` lets the chunk hooks of a large file run on a native thread, in order.
    """

    def bind(self, attempt: Attempt) -> Hooks | None:
        """The hooks of one attempt, by fact; None where there are none."""


class Bound:
    """The hooks of one attempt: those of a fact by its name, in the order of the stages.

    They are looked for when they are told something, and kept by nobody; but a Listener with ``__slots__`` is told by
    the methods that its class had when the door first saw one.  ``offloaded`` are the chunk hooks that may leave the
    hub; they are not among those of ``chunk``.
    """

    __slots__ = ("_listeners", "_plan")

    def __init__(self, listeners: list[Any], plan: _Plan) -> None:
        self._listeners = listeners
        self._plan = plan

    def __getitem__(self, fact: str) -> Sequence[Hook]:
        return [MethodType(call, self._listeners[at]) for at, call in self._plan.by_fact.get(fact, ())]

    @property
    def offloaded(self) -> Sequence[Hook]:
        return self[_OFFLOADED]

    def ask(self, fact: str, *told: Any) -> None:
        """Tell those who may refuse: the first who raises ends the attempt."""
        listeners = self._listeners
        try:
            for at, call in self._plan.by_fact.get(fact, ()):
                call(listeners[at], *told)
        except FetchError:
            raise
        except Exception as exc:
            raise refused(exc, fact) from exc

    def see(self, view: memoryview, every: bool) -> None:
        """Show a chunk to those who see it on the hub: to ``every`` one where none leaves it.  Each may refuse."""
        listeners = self._listeners
        try:
            for at, call in self._plan.by_fact.get(_EVERY_CHUNK if every else "chunk", ()):
                call(listeners[at], view)
        except FetchError:
            raise
        except Exception as exc:
            raise refused(exc, "chunk") from exc

    def tell(self, fact: str, *told: Any) -> None:
        """Tell those who only observe: what they raise is logged and changes nothing.  A kill is no opinion: it is
        raised.
        """
        listeners = self._listeners
        for at, call in self._plan.by_fact.get(fact, ()):
            _observed(call, listeners[at], *told)

    def tell_all(self, fact: str, answers: list[Any], *told: Any) -> BaseException | None:
        """Tell every observer of what cannot be undone, even if a kill strikes in one; the kill, for whom it
        concerns.
        """
        killed: BaseException | None = None
        listeners = self._listeners
        for at, call in self._plan.by_fact.get(fact, ()):
            try:
                answers.append(_observed(call, listeners[at], *told))
            except BaseException as exc:
                killed = exc
        return killed

    def give_up(self) -> None:
        """Nobody wants what comes of the bytes any more: whoever waits somewhere for room for them may make an end.

        That is no fact: it may be said at any time, to those alone who have a ``give_up``, and waits for nothing.
        """
        for listener in self._listeners:
            give_up = getattr(listener, "give_up", None)
            if give_up is not None:
                give_up()

    def forget_bytes(self) -> None:
        """The bytes are through: let go of those who listened to nothing else.  A pool of 32 has a hundred files that
        wait for their records, and a garbage collector that looks at all that they hold."""
        for at in self._plan.of_bytes:
            self._listeners[at] = None


def refused(exc: Exception, fact: str) -> FetchError:
    """What becomes of a hook's exception where it may refuse."""
    return FetchError(f"refused at {fact!r} by a hook: {type(exc).__name__}: {exc}")


def _observed(hook: Hook, *told: Any) -> Any:
    try:
        return hook(*told)
    except Exception:
        log.exception("an observer failed; the download goes on")
        return None


#: Where the plan has the chunk hooks that may leave the hub, and where all of them; no fact is called so.
_OFFLOADED = "chunk, offloaded"
_EVERY_CHUNK = "chunk, every"
_BYTES = frozenset({"headers", "chunk", "received", _OFFLOADED})


class _Plan:
    """Which of the listeners that stages gave listens to what: worked out once for all of the same kinds."""

    __slots__ = ("by_fact", "of_bytes")

    def __init__(self, each: Iterable[Iterable[tuple[str, Hook]]]) -> None:
        by_fact: dict[str, list[tuple[int, Hook]]] = {}
        later: set[int] = set()
        count = 0
        for at, told in enumerate(each):
            count = at + 1
            for fact, call in told:
                by_fact.setdefault(fact, []).append((at, call))
                if fact not in _BYTES:
                    later.add(at)
        #: Who listens, and what is called with the listener before all else that is told.
        self.by_fact = {fact: tuple(told) for fact, told in by_fact.items()}
        self.by_fact[_EVERY_CHUNK] = (*by_fact.get("chunk", ()), *by_fact.get(_OFFLOADED, ()))
        #: Those who listen to the bytes alone.
        self.of_bytes = tuple(at for at in range(count) if at not in later)


#: Where nobody listens.
NOBODY = Bound([], _Plan(()))


#: Plans that one door remembers.
PLANS = 64


class Door:
    """Stages, and what they have to say to each attempt (``bind``), or to each spec (``watch``)."""

    def __init__(self, stages: Iterable[Any], asked: str = "bind", known: Sequence[str] = ATTEMPT_FACTS) -> None:
        found = [(stage, getattr(stage, asked, None)) for stage in stages]
        self._asked = asked
        self._known = known
        self._stages = [stage for stage, ask in found if ask is not None]
        self._each = [ask for _, ask in found if ask is not None]
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    def bound(self, what: Attempt | Spec) -> Bound:
        """Every stage bound to one attempt, or to one spec; one that cannot be refuses the download like any hook."""
        if not self._each:
            return NOBODY
        try:
            listeners = [ask(what) for ask in self._each]
            kinds = tuple(map(type, listeners))
            plan = self._plans.get(kinds)
            return Bound(listeners, self._planned(kinds, listeners) if plan is None else plan)
        except FetchError:
            raise
        except Exception as exc:
            raise refused(exc, "bind") from exc

    def _planned(self, kinds: tuple[type, ...], listeners: list[Any]) -> _Plan:
        # The class of a Listener says what it listens to; another mapping's keys do, those that it has now.
        for at, one in enumerate(listeners):
            if isinstance(one, Mapping) and not isinstance(one, Listener):
                listeners[at] = dict(one)
        known = tuple(tuple(one) if type(one) is dict else kind for one, kind in zip(listeners, kinds, strict=True))
        plan = self._plans.get(known)
        if plan is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            plan = self._plans[known] = _Plan(map(self._told, self._stages, listeners))
        return plan

    def _told(self, stage: Any, listener: Any) -> Iterator[tuple[str, Hook]]:
        if not isinstance(listener, Mapping):
            if listener is None:
                return
            raise SpecError(f"{self._asked}() of {stage!r} gives a mapping of hooks, not {type(listener).__name__}")
        for fact in listener:
            if fact not in self._known:
                raise SpecError(f"{stage!r} listens to {fact!r}; there are {', '.join(self._known)}")
            aside = fact == "chunk" and self._asked == "bind" and getattr(stage, "offload", False)
            yield _OFFLOADED if aside else fact, _call(listener, fact)


def _call(listener: Any, fact: str) -> Hook:
    """What calls the hook of any listener of this kind."""
    if not isinstance(listener, Listener):
        return lambda hooks, *told: hooks[fact](*told)
    name = f"on_{fact}"
    method = getattr_static(type(listener), name, None)
    # Without attributes of its own it has what its class has: nothing to look for, and no bound method made, each time.
    if isinstance(method, FunctionType) and not hasattr(listener, "__dict__"):
        return method
    return lambda listener, *told: getattr(listener, name)(*told)


class Plain:
    """Plain callables as a stage: each is given what it is about, then what the fact tells.

    ``planned(spec)``, ``started(attempt)``, ``headers(attempt, head)``, ``chunk(attempt, view)``,
    ``received(attempt)``, ``accepted(attempt)``, ``stored(attempt, location)``, ``failed(attempt, error)``,
    ``finished(outcome)``.
    """

    def __init__(self, hooks: Mapping[str, Hook | Sequence[Hook]]) -> None:
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        for fact, given in hooks.items():
            each = tuple(given) if isinstance(given, list | tuple) else (given,)
            if fact not in FACTS:
                raise SpecError(f"no fact is called {fact!r}; there are {', '.join(FACTS)}")
            if not all(map(callable, each)):
                raise SpecError(f"the hook for {fact!r} cannot be called: {given!r}")
            self._hooks[fact] = each

    def bind(self, attempt: Attempt) -> Hooks:
        return {fact: _told(each, attempt) for fact, each in self._hooks.items() if fact in ATTEMPT_FACTS}

    def watch(self, spec: Spec) -> Hooks:
        found: dict[str, Hook] = {}
        if "planned" in self._hooks:
            found["planned"] = _told(self._hooks["planned"], spec)
        if "finished" in self._hooks:
            found["finished"] = _told(self._hooks["finished"])
        return found

    def __repr__(self) -> str:
        return f"hooks for {', '.join(self._hooks)}"


def _told(each: Sequence[Hook], *about: Any) -> Hook:
    if len(each) == 1 and not about:
        return each[0]

    def tell(*more: Any) -> Any:
        answer = None
        for hook in each:
            said = hook(*about, *more)
            answer = said if said is not None else answer
        return answer

    return tell


def plain(hooks: Mapping[str, Hook | Sequence[Hook]] | None) -> tuple[Plain, ...]:
    """A stage for plain callables by fact; nothing for nothing."""
    return (Plain(hooks),) if hooks else ()


def checked(stages: Iterable[Any]) -> tuple[Any, ...]:
    """The stages themselves, if each can take part; a SpecError otherwise."""
    if not isinstance(stages, Iterable):
        raise SpecError(f"stages is a list of stages, not {type(stages).__name__}")
    found = tuple(stages)
    for stage in found:
        if not callable(getattr(stage, "bind", None)):
            raise SpecError(f"{stage!r} is no stage: it has no bind(attempt)")
    return found
