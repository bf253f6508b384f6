"""What an answer looks like.  In: a body and the ways in which it is sent.  Out: a Scene, and its steps as plain JSON.

Never: a socket.  Steps are all that the origin understands:

    ["send", base64, times]     ["drip", base64, bytes, seconds]     ["endless", base64, seconds]
    ["gate"]  wait to be released     ["sleep", seconds]
    ["close"]  ["chop"]  ["reset"]  ["hang"]  after these nothing comes
"""

from __future__ import annotations

import base64
import gzip as gzip_format
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

__all__ = ["GATE", "Drip", "Endless", "Scene", "Step", "Then", "chunks", "raw"]

Step: TypeAlias = list[Any]
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
Then: TypeAlias = Literal["keep", "close", "chop", "reset", "hang"]

#: Where a raw scene waits for ``release()``.
GATE = object()


@dataclass(frozen=True, slots=True)
class Drip:
    """A part of a raw scene that comes a few bytes at a time."""

    data: bytes
    size: int = 1
    pause_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Endless:
    """The last part of a raw scene: the same bytes again and again until the client leaves."""

    data: bytes
    pause_s: float = 0.001


class _Told:
    def __repr__(self) -> str:
        return "as it is"


TRUE_LENGTH: Any = _Told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One answer.  Offsets count the bytes of the body as it is on the wire: after gzip and chunking.

    ``body`` is sent ``times`` times over.  ``announce`` is the Content-Length that is told: another number, any text,
    several values (a line each), or None for none: the body then ends where the connection does.
    ``chunked`` is True, or the size of a chunk.  ``gzip`` encodes the body and says so.

    ``stall`` waits for ``release()``: at "head", before any byte, or after so many bytes of the body.
    ``cut`` closes after so many bytes (FIN, and no close_notify in TLS), ``reset`` resets (RST); at "head": before any
    byte.  ``drip`` is (bytes, seconds).  ``endless`` sends the body again and again until the client leaves.
    ``latency_s`` passes before the answer.  ``retry_after`` is that header.

    ``interim`` are statuses of interim answers that come first; ``storm`` is one that comes for ever.
    ``extra`` follows the body's end.  ``then`` is what happens afterwards: "keep", "close" (in TLS with
    close_notify), "chop" (without), "reset" or "hang" (nothing more, until the client leaves).
    ``reused`` is what happens instead if the request is not the first one on its connection: "close" or "reset".
    """

    body: bytes = b""
    times: int = 1
    status: int = 200
    reason: str | None = None
    version: str = "HTTP/1.1"
    headers: Headers = ()
    announce: int | str | tuple[int | str, ...] | None = TRUE_LENGTH
    chunked: bool | int = False
    gzip: bool = False
    stall: Literal["head"] | int | None = None
    cut: Literal["head"] | int | None = None
    reset: Literal["head"] | int | None = None
    drip: tuple[int, float] | None = None
    endless: bool = False
    latency_s: float = 0.0
    retry_after: int | str | None = None
    interim: tuple[int, ...] = ()
    storm: int | None = None
    extra: bytes = b""
    then: Then = "keep"
    reused: Literal["close", "reset"] | None = None
    literal: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if self.endless and (self.chunked or self.gzip or self.times != 1):
            raise ValueError("an endless body is sent as it is, again and again")
        if self.cut is not None and self.reset is not None:
            raise ValueError("a body is cut or reset, not both")

    def but(self, **changes: Any) -> Scene:
        """The same scene with some ways changed."""
        return replace(self, **changes)

    def script(self) -> dict[str, Any]:
        """The scene as the origin plays it; ``body`` is left out for HEAD."""
        if self.literal is not None:
            return {"head": [*_said(self.literal), *_ending(self.then)], "body": [], "reused": self.reused}
        return {"head": list(_head_steps(self)), "body": list(_body_steps(self)), "reused": self.reused}


def raw(*parts: Any, then: Then = "close", reused: Literal["close", "reset"] | None = None) -> Scene:
    """A scene that sends these very bytes after it read the request; parts may be ``GATE``, Drip and Endless too."""
    return Scene(literal=parts, then=then, reused=reused)


def _said(parts: Iterable[Any]) -> Iterator[Step]:
    for part in parts:
        match part:
            case bytes():
                yield _send(part)
            case Drip(data, size, pause_s):
                yield _dripped(data, (size, pause_s))
            case Endless(data, pause_s):
                yield _endless(data, pause_s)
            case _ if part is GATE:
                yield ["gate"]
            case _:
                raise TypeError(f"a raw scene is made of bytes, GATE, Drip and Endless, not {part!r}")


def _send(data: bytes, times: int = 1) -> Step:
    return ["send", base64.b64encode(data).decode(), times]


def _ending(then: Then) -> list[Step]:
    return [] if then == "keep" else [[then]]


def _head_steps(scene: Scene) -> Iterator[Step]:
    if scene.latency_s:
        yield ["sleep", scene.latency_s]
    if scene.stall == "head":
        yield ["gate"]
    if scene.cut == "head" or scene.reset == "head":
        yield ["chop" if scene.cut == "head" else "reset"]
    if scene.storm is not None:
        yield _endless(_interim(scene.storm), 0.001)
    yield _send(b"".join(map(_interim, scene.interim)) + _head(scene))


def _interim(status: int) -> bytes:
    link = "Link: </style.css>; rel=preload\r\n" if status == 103 else ""
    return f"HTTP/1.1 {status} {_reason(status)}\r\n{link}\r\n".encode()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unheard Of"


def _head(scene: Scene) -> bytes:
    reason = _reason(scene.status) if scene.reason is None else scene.reason
    lines = [f"{scene.version} {scene.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in _headers(scene)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _headers(scene: Scene) -> Iterator[tuple[str, str]]:
    yield from scene.headers.items() if isinstance(scene.headers, Mapping) else scene.headers
    if scene.gzip:
        yield "Content-Encoding", "gzip"
    if scene.retry_after is not None:
        yield "Retry-After", str(scene.retry_after)
    if scene.chunked:
        yield "Transfer-Encoding", "chunked"
    for value in _announced(scene):
        yield "Content-Length", str(value)


def _announced(scene: Scene) -> tuple[int | str, ...]:
    if scene.announce is None:
        return ()
    if isinstance(scene.announce, tuple):
        return scene.announce
    if scene.announce is not TRUE_LENGTH:
        return (scene.announce,)
    bodiless = 100 <= scene.status < 200 or scene.status in (204, 304)
    if scene.chunked or scene.endless or (bodiless and not scene.body):
        return ()
    return (len(_encoded(scene)) * scene.times,)


def _encoded(scene: Scene) -> bytes:
    return gzip_format.compress(scene.body, mtime=0) if scene.gzip else scene.body


def _body_steps(scene: Scene) -> Iterator[Step]:
    if scene.endless:
        yield from _endless_steps(scene)
    elif scene.times != 1 and not (scene.chunked or scene.drip or _marks(scene)):
        yield _send(_encoded(scene), scene.times)
    else:
        yield from _marked_steps(scene, _on_the_wire(scene))
    yield from _last_steps(scene)


def _endless_steps(scene: Scene) -> Iterator[Step]:
    size, pause = scene.drip or (65536, 0.0)
    block = (scene.body or b"\0") * -(-size // max(len(scene.body), 1))
    if scene.stall == 0:
        yield ["gate"]
    yield _endless(block[:size], pause)


def _on_the_wire(scene: Scene) -> bytes:
    body = _encoded(scene) * scene.times
    if not scene.chunked:
        return body
    return chunks(body, 16384 if scene.chunked is True else scene.chunked)


def chunks(body: bytes, size: int = 16384) -> bytes:
    """The body in chunks of so many bytes, and the last chunk (RFC 9112, 7.1)."""
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _marks(scene: Scene) -> list[tuple[int, Step]]:
    marks: list[tuple[int, Step]] = []
    for offset, name in ((scene.stall, "gate"), (scene.cut, "chop"), (scene.reset, "reset")):
        if isinstance(offset, int):
            marks.append((offset, [name]))
    # Sorting is stable: at one offset the scene stalls first and breaks off when it is released.
    return sorted(marks, key=lambda mark: mark[0])


def _marked_steps(scene: Scene, wire: bytes) -> Iterator[Step]:
    at = 0
    for offset, step in [*_marks(scene), (len(wire), [])]:
        if part := wire[at:offset]:
            yield _dripped(part, scene.drip) if scene.drip else _send(part)
        at = max(at, offset)
        if step:
            yield step


def _dripped(part: bytes, drip: tuple[int, float]) -> Step:
    return ["drip", base64.b64encode(part).decode(), *drip]


def _endless(data: bytes, pause_s: float) -> Step:
    return ["endless", base64.b64encode(data).decode(), pause_s]


def _last_steps(scene: Scene) -> Iterator[Step]:
    if scene.extra:
        yield _send(scene.extra)
    told = scene.chunked or scene.announce is not None or not scene.body
    # Without a length or chunks the end of the connection is the end of the body.
    yield from _ending("close" if scene.then == "keep" and not told else scene.then)
