"""What can happen to a download, in which order, and who may refuse; the Attempt it happens to, the Outcome it ends in.

    planned()              spec      observed                a spec was taken from the input
    started()              attempt   observed                one source is about to be asked (or none: an adoption)
    headers(head)          attempt   may refuse              an answer that could be the file; no byte of it is read yet
    chunk(view)            attempt   may refuse              bytes of it, as they come
    received()             attempt   may refuse              the framing says: this was all
    accepted()             attempt   may refuse              whole and proven: publish
    stored(location)       attempt   may refuse              it has its final name: record
    failed(error)          attempt   observed, may answer    this try is over; who mended the cause says AGAIN or NEXT
    finished(outcome)      spec      observed, exactly once  nothing more will happen to this spec

In: nothing.  Out: values that every room reads; Listener, what a stage of ours hears them with.  Never: I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from .errors import FetchError
from .frozen import unfrozen
from .spec import Digest, Source, Spec

__all__ = [
    "ATTEMPT_FACTS",
    "FACTS",
    "SPEC_FACTS",
    "Attempt",
    "Found",
    "Head",
    "Kept",
    "Listener",
    "Outcome",
    "Recall",
    "Verdict",
]

SPEC_FACTS = ("planned", "finished")
ATTEMPT_FACTS = ("started", "headers", "chunk", "received", "accepted", "stored", "failed")
FACTS = ("planned", *ATTEMPT_FACTS, "finished")

State: TypeAlias = Literal["stored", "adopted", "failed", "cancelled"]
Proof: TypeAlias = Literal["digest", "size", "framing", "nothing"]


class Listener(Mapping[str, Callable[..., Any]]):
    """The hooks of one attempt or spec as methods: ``on_`` and the fact.  What they remember are its attributes.

    It is the mapping that a stage's ``bind`` gives.  The door needs no more than its class until a fact is told; a
    mapping of closures is a dozen objects a file, and the garbage collector looks at each of them.
    """

    __slots__ = ()
    facts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        unknown = [name for name in vars(cls) if name.startswith("on_") and name[3:] not in FACTS]
        if unknown:
            raise TypeError(f"{cls.__name__} has {', '.join(unknown)}; there are on_{', on_'.join(FACTS)}")
        cls.facts = tuple(fact for fact in FACTS if hasattr(cls, f"on_{fact}"))

    def __getitem__(self, fact: str) -> Callable[..., Any]:
        if fact not in self.facts:
            raise KeyError(fact)
        found: Callable[..., Any] = getattr(self, f"on_{fact}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


class Verdict(Enum):
    """What to do after an error."""

    AGAIN = "ask the same source again"
    NEXT = "ask the next source"
    STOP = "ask nobody any more"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer that could be the file.

    ``length`` is the number of bytes its framing announces (None: not told); ``framed`` says whether its framing will
    tell a whole body from a cut one; ``encoding`` is a Content-Encoding that the bytes still carry ("" for none);
    ``url`` is where the answer came from after redirects, fit to be shown.
    """

    status: int
    headers: Mapping[str, str]
    length: int | None
    framed: bool
    encoding: str
    url: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a store keeps a file, in words that a record can hold, and what its file system says of it."""

    store: str
    key: str
    size: int
    mtime_ns: int | None = None
    inode: int | None = None

    @classmethod
    def made(cls, store: str, key: str, size: int, mtime_ns: int | None, inode: int | None) -> Kept:
        """The same in a third of the time: two or three of them are made for each file."""
        made: Any = _UnfrozenKept()
        made.store = store
        made.key = key
        made.size = size
        made.mtime_ns = mtime_ns
        made.inode = inode
        made.__class__ = cls
        return made  # type: ignore[no-any-return]


_UnfrozenKept = unfrozen(Kept)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a store already has and that is what a spec wants: nothing needs to be fetched."""

    location: Any
    size: int
    digests: Mapping[str, Digest]
    verified: Proof
    kept: Kept | None = None


class Recall(Protocol):
    """What the records remember of a stored file; a store asks before it reads a file again."""

    def __call__(self, store: str, key: str) -> tuple[Kept, Mapping[str, Digest]] | None:
        """The file as it was when it was last proven, and its digests then; None where nothing is known."""


@dataclass(eq=False, slots=True)
class Attempt:
    """One try of one source; ``source`` is None for an adoption.  Stages read it, and write what they find out.

    ``digests`` and ``verified`` are written by validation at ``received``; ``location`` and ``kept`` by the store at
    ``accepted``; the rest by the pipeline.  ``received_bytes`` counts what came over the wire.
    """

    spec: Spec
    source: Source | None
    number: int = 1
    head: Head | None = None
    received_bytes: int = 0
    size: int | None = None
    digests: dict[str, Digest] = field(default_factory=dict)
    verified: Proof = "nothing"
    location: Any = None
    kept: Kept | None = None
    error: FetchError | None = None
    elapsed_s: float = 0.0

    def __repr__(self) -> str:
        ended = f", {self.error!r}" if self.error is not None else ""
        return f"Attempt({self.number}, {self.source.shown if self.source else 'adoption'}{ended})"


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """The end of one spec.

    ``state``: stored (fetched and published), adopted (it was there already), failed or cancelled.  ``location`` is the
    store's: a path, a key, an open file.  ``digests`` are those computed, by algorithm.  ``verified`` is the strongest
    thing that proved the bytes: digest, size, framing, or nothing (a body that ends where the connection does, and no
    size or digest to hold it against).  ``fetched`` counts the bytes received over all attempts.
    """

    state: State
    spec: Spec
    source: Source | None = None
    location: Any = None
    size: int | None = None
    digests: Mapping[str, Digest] = field(default_factory=dict)
    verified: Proof = "nothing"
    fetched: int = 0
    error: FetchError | None = None
    attempts: tuple[Attempt, ...] = ()
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the file is there now, proven."""
        return self.state in ("stored", "adopted")

    def raise_for_error(self) -> Outcome:
        """Itself if the file is there; its error raised otherwise."""
        if self.error is not None:
            raise self.error
        return self

    def __repr__(self) -> str:
        what = f"{self.location!r}, {self.size} bytes, verified by {self.verified}" if self.ok else repr(self.error)
        return f"Outcome({self.state}, {(self.source or self.spec.source).shown!r}, {what})"
