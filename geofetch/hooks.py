"""The door through which everything takes part in a download: ours and the user's alike.

In: stages, and an attempt or a spec to bind them to.  Out: for each fact the callables that listen, in the order of the
stages.  Never: what the facts mean, or their order in time; pipeline.py tells that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .errors import SpecError
from .events import ATTEMPT_FACTS, FACTS, SPEC_FACTS, Attempt
from .spec import Spec

__all__ = ["NOBODY", "Bound", "Plain", "Stage", "bound", "checked", "plain", "watched"]

Hook: TypeAlias = Callable[..., Any]
Hooks: TypeAlias = Mapping[str, Hook]


@runtime_checkable
class Stage(Protocol):
    """Something that takes part in downloads.

    ``bind(attempt)`` gives the hooks of one attempt, by fact; whatever they remember lives in their closure, so that
    nothing is left over from a failed try and nothing is shared by two downloads.  Two more members are optional:

    ``watch(spec)`` gives the hooks ``planned`` and ``finished`` of one spec.
    ``have(spec)`` gives a Found if the file is there already and right: asked before any source is.
    ``offload = True`` lets the chunk hooks of a large file run on a native thread, in order.
    """

    def bind(self, attempt: Attempt) -> Hooks:
        """The hooks of one attempt, by fact."""


_OF_AN_ATTEMPT, _OF_A_SPEC = dict.fromkeys(ATTEMPT_FACTS), dict.fromkeys(SPEC_FACTS)
_NONE: dict[str, tuple[Hook, ...]] = dict.fromkeys(FACTS, ())


class Bound(dict[str, tuple[Hook, ...]]):
    """The hooks of one attempt, one tuple a fact; ``offloaded`` are the chunk hooks that may leave the hub."""

    __slots__ = ("offloaded",)

    def __init__(self) -> None:
        super().__init__(_NONE)
        self.offloaded: tuple[Hook, ...] = ()

    def _add(self, hooks: Hooks, known: Iterable[str], stage: Any, offload: bool = False) -> None:
        for fact, hook in hooks.items():
            if fact not in known:
                raise SpecError(f"{stage!r} listens to {fact!r}; there are {', '.join(known)}")
            if offload and fact == "chunk":
                self.offloaded += (hook,)
            else:
                before = self[fact]
                self[fact] = (*before, hook) if before else (hook,)

    def forget_bytes(self) -> None:
        """The bytes are through: let go of who listened to them.

        A pool of 32 has a hundred files that wait for their records, and the garbage collector looks at what they hold.
        """
        for fact in _OF_BYTES:
            self[fact] = ()
        self.offloaded = ()


_OF_BYTES = ("headers", "chunk", "received")

#: Where nobody listens.  Never added to.
NOBODY = Bound()


def bound(stages: Iterable[Any], attempt: Attempt) -> Bound:
    """Every stage bound to one attempt."""
    hooks = Bound()
    for stage in stages:
        offered = stage.bind(attempt)
        if offered:
            hooks._add(offered, _OF_AN_ATTEMPT, stage, getattr(stage, "offload", False))
    return hooks


def watched(stages: Sequence[Any], spec: Spec) -> Bound:
    """Every stage that watches specs, bound to one."""
    if not stages:
        return NOBODY
    hooks = Bound()
    for stage in stages:
        watch = getattr(stage, "watch", None)
        offered = watch(spec) if watch is not None else None
        if offered:
            hooks._add(offered, _OF_A_SPEC, stage)
    return hooks


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
