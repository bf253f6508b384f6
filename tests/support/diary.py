"""What happened to downloads, written down by stages that listen like everybody else.

In: facts.  Out: lists of them, whole and in order.  Never: a say in what happens, unless a test asks for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from geofetch.events import ATTEMPT_FACTS, Attempt, Head, Kept, Outcome
from geofetch.spec import Spec
from geofetch.store import TempStore

WHOLE = ["planned", "started", "headers", "chunk", "received", "accepted", "stored", "finished"]
ADOPTED = ["planned", "started", "accepted", "stored", "finished"]
#: What may refuse, in the order in which it comes.
REFUSING = ("headers", "chunk", "received", "accepted", "stored")


class Diary:
    """Every fact in the order in which it was told; chunks one after the other are one entry."""

    def __init__(self, offload: bool = False) -> None:
        self.offload = offload
        self.told: list[tuple[str, Any]] = []
        self.outcomes: list[Outcome] = []
        self.bound: list[Attempt] = []
        self.watched: list[Spec] = []

    @property
    def facts(self) -> list[str]:
        """The names of the facts."""
        return [fact for fact, _ in self.told]

    def of(self, spec: Spec) -> list[str]:
        """The facts of one spec; its chunks are one entry also where another one's came between them."""
        told = [fact for fact, about in self.told if about is spec]
        return [fact for n, fact in enumerate(told) if n == 0 or fact != "chunk" or told[n - 1] != "chunk"]

    def watch(self, spec: Spec) -> Mapping[str, Any]:
        self.watched.append(spec)

        def on_finished(outcome: Outcome) -> None:
            self._note("finished", spec)
            self.outcomes.append(outcome)

        return {"planned": lambda: self._note("planned", spec), "finished": on_finished}

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        self.bound.append(attempt)
        return {fact: self._noting(fact, attempt.spec) for fact in ATTEMPT_FACTS}

    def _noting(self, fact: str, spec: Spec) -> Callable[..., None]:
        return lambda *told: self._note(fact, spec)

    def _note(self, fact: str, spec: Spec) -> None:
        if fact != "chunk" or not self.told or self.told[-1] != ("chunk", spec):
            self.told.append((fact, spec))


class Raising:
    """Raises at one fact, in the first so many attempts (or for ever)."""

    def __init__(self, fact: str, error: BaseException, times: int | None = None, offload: bool = False) -> None:
        self.fact, self.error, self.left, self.offload = fact, error, times, offload

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {self.fact: self._raise} if self.fact in ATTEMPT_FACTS else {}

    def watch(self, spec: Spec) -> Mapping[str, Any]:
        return {self.fact: self._raise} if self.fact not in ATTEMPT_FACTS else {}

    def _raise(self, *told: Any) -> None:
        if self.left == 0:
            return
        if self.left is not None:
            self.left -= 1
        raise self.error


class Dropping(TempStore):
    """A store that keeps nothing but counts."""

    def __init__(self) -> None:
        super().__init__()
        self.published = 0

    def begin(self, attempt: Attempt, head: Head) -> Any:
        return _Dropped(self)


class _Dropped:
    __slots__ = ("_store",)

    def __init__(self, store: Dropping) -> None:
        self._store = store

    def write(self, view: memoryview) -> None:
        pass

    def publish(self, digests: Mapping[str, Any]) -> tuple[None, Kept | None]:
        self._store.published += 1
        return None, None

    def discard(self) -> None:
        pass


def sha256(body: bytes) -> str:
    """As a Spec takes it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
