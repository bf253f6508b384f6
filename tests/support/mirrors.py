"""The origin as tests see it: Origins open ports, a Mirror serves scenes, a Handle is one of them.

In: scenes.  Out: URLs, and what was asked for.  Never: a blocked hub; what waits here lets other greenlets run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, TypeVar
from urllib.parse import quote

from geofetch.spec import Source
from tests.origin.content import tree_file, tree_name
from tests.origin.scenes import Scene, raw
from tests.origin.wire import Request

from .certs import Authority, Certificate
from .process import OriginProcess
from .waiting import until


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection as the origin saw it.  ``tls`` is its version, ``client`` the name in the client's certificate."""

    number: int
    opened: float
    requests: int
    open: bool
    tls: str | None
    client: str | None
    client_digest: str | None
    sni: str | None
    error: str | None


class Handle:
    """One path that is served; equal to a Source, and to another handle, of the same URL."""

    def __init__(self, mirror: Mirror, path: str) -> None:
        self.mirror = mirror
        self.path = path
        self.url = mirror.base + path

    @property
    def source(self) -> Source:
        """Where this is, as a geofetch.Source."""
        return Source(self.url)

    def via(self, host: str) -> str:
        """The same place under another host name, which makes it another origin."""
        return f"{self.mirror.scheme}://{host}:{self.mirror.port}{self.path}"

    @property
    def hits(self) -> int:
        """How often it was asked for."""
        return int(self.mirror.tell("seen", path=self.path)["hits"])

    @property
    def requests(self) -> list[Request]:
        """Every request for it, in the order of their coming."""
        return self.mirror.asked(self.path)

    @property
    def request(self) -> Request:
        """The one request for it; there must have been exactly one."""
        (only,) = self.requests
        return only

    @property
    def connections(self) -> list[Connection]:
        """The connections that brought requests for it."""
        numbers = {request.connection for request in self.requests}
        return [one for one in self.mirror.connections if one.number in numbers]

    def arrived(self, timeout_s: float = 10.0, times: int = 1) -> None:
        """Wait until the scene has come to its gate, so many times in all."""
        until(lambda: self.mirror.tell("seen", path=self.path)["at_gate"] >= times, timeout_s, f"{self} at its gate")

    def asked(self, timeout_s: float = 10.0, times: int = 1) -> None:
        """Wait until it was asked for, so many times in all."""
        until(lambda: self.hits >= times, timeout_s, f"{self} asked for {times} times")

    def release(self) -> None:
        """Open the scene's gate, for good."""
        self.mirror.tell("release", path=self.path)

    def __eq__(self, other: object) -> bool:
        return self.url == other.url if isinstance(other, Source | Handle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.url)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Handle({self.url!r})"


class Tree:
    """Many small files under one prefix; ``base`` ends in a slash, and SHA256SUMS is there as well."""

    def __init__(self, mirror: Mirror, prefix: str, number: int, size: tuple[int, int], seed: str) -> None:
        self._mirror, self._prefix, self._size, self._seed = mirror, prefix, size, seed
        self.base = mirror.base + prefix
        self.names = [tree_name(one) for one in range(number)]
        self.urls = [self.base + name for name in self.names]

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """Every file by its name."""
        return {name: tree_file(number, self._size, self._seed) for number, name in enumerate(self.names)}

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of every file in hex, by its name."""
        return {name: hashlib.sha256(body).hexdigest() for name, body in self.contents.items()}

    @property
    def sums(self) -> str:
        """All of it as sha256sum writes it."""
        return "".join(f"{digest}  {name}\n" for name, digest in self.digests.items())

    @property
    def sums_url(self) -> str:
        return self.base + "SHA256SUMS"

    @property
    def hits(self) -> dict[str, int]:
        """How often each file was asked for; those that never were are absent."""
        return dict(self._mirror.tell("tree_hits", prefix=self._prefix))


class Port:
    """A port of the origin: its address, and what came to it."""

    def __init__(self, origin: OriginProcess, host: str, scheme: str, **how: Any) -> None:
        self._origin = origin
        opened = origin.tell("listen", host=host, **how)
        self._id: int = opened["id"]
        self.port: int = opened["port"]
        self.host, self.scheme = host, scheme
        self.base = f"{scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The root; on a port that serves nothing, as good as any path."""
        return self.base + "/"

    @property
    def source(self) -> Source:
        return Source(self.base + "/file")

    def tell(self, command: str, **arguments: Any) -> Any:
        return self._origin.tell(command, id=self._id, **arguments)

    @property
    def accepted(self) -> int:
        """How many connections it has accepted."""
        return int(self.tell("stats")["accepted"])

    @property
    def open(self) -> int:
        """How many of them are open now."""
        return int(self.tell("stats")["open"])

    @property
    def hits(self) -> int:
        """How many requests came, whatever for."""
        return int(self.tell("stats")["hits"])

    @property
    def requests(self) -> list[Request]:
        """Every request, in the order of their coming (the last 20,000)."""
        return self.asked()

    def asked(self, path: str | None = None) -> list[Request]:
        return [_request(plain) for plain in self.tell("requests", path=path)]

    @property
    def connections(self) -> list[Connection]:
        """Every connection, in the order of their coming."""
        return [Connection(**plain) for plain in self.tell("connections")]

    def drops(self, reset: bool = False) -> None:
        """End every connection from the origin's side, idle or not."""
        self.tell("drop", reset=reset)

    def left(self, timeout_s: float = 10.0) -> None:
        """Wait until no connection is open."""
        until(lambda: self.open == 0, timeout_s, f"no connection to {self.base} open")

    def close(self) -> None:
        self.tell("close")


def _request(plain: dict[str, Any]) -> Request:
    pairs = [(name, value) for name, value in plain.pop("headers")]
    return Request(headers=pairs, body=base64.b64decode(plain.pop("body")), **plain)


class Mirror(Port):
    """A port that serves scenes, each at a path of its own."""

    _paths = count(1)

    def serves(self, body: bytes = b"", *, name: str = "file", at: str | None = None, **how: Any) -> Handle:
        """One answer, for ever; ``how`` is what :class:`tests.origin.scenes.Scene` has."""
        return self.plays([Scene(body=body, **how)], name=name, at=at)

    def plays(self, scenes: Sequence[Scene], *, name: str = "file", at: str | None = None) -> Handle:
        """The first scene for the first hit, the next one for the next; the last one repeats."""
        path = at or f"/{next(self._paths)}/{quote(name)}"
        self.tell("play", path=path, scripts=[scene.script() for scene in scenes])
        return Handle(self, path)

    def raw(self, *parts: Any, name: str = "file", at: str | None = None, **how: Any) -> Handle:
        """These very bytes, whatever they are; parts may be GATE, Drip and Endless too."""
        return self.plays([raw(*parts, **how)], name=name, at=at)

    def redirects(self, to: Handle | str, status: int = 302, **how: Any) -> Handle:
        """An answer that sends the client elsewhere: to a handle, or a Location of any text."""
        headers = {"Location": to.url if isinstance(to, Handle) else to, **how.pop("headers", {})}
        return self.serves(status=status, headers=headers, **how)

    def chain(self, to: Handle | str, hops: int, status: int = 302) -> Handle:
        """So many redirects in a row, the last one to that place."""
        for _ in range(hops):
            to = self.redirects(to, status)
        assert isinstance(to, Handle)
        return to

    def loops(self, status: int = 302) -> Handle:
        """A redirect to itself."""
        path = f"/{next(self._paths)}/loop"
        return self.redirects(path, status, at=path)

    def tree(self, number: int, size: int | tuple[int, int] = 1024, seed: str | int = 0) -> Tree:
        """So many files of a size, or of sizes between two; their contents follow from the seed."""
        prefix, bounds = f"/{next(self._paths)}/", (size, size) if isinstance(size, int) else size
        self.tell("tree", prefix=prefix, count=number, size=bounds, seed=str(seed))
        return Tree(self, prefix, number, bounds, str(seed))

    def cuts(self, data: bytes, end: str = "chop") -> str:
        """The same answer, broken off: the URL to which the number of bytes is added.  ``end``: "chop" or "reset"."""
        prefix = f"/{next(self._paths)}/"
        self.tell("cuts", prefix=prefix, data=base64.b64encode(data).decode(), end=end)
        return self.base + prefix

    def renews(self, shows: Certificate) -> None:
        """From the next connection on it shows this certificate."""
        self.tell("renew", cert=str(shows.both))

    def latency(self, seconds: float) -> None:
        """From now on every answer comes so much later."""
        self.tell("latency", seconds=seconds)


class Proxy(Port):
    """A forward proxy: ``url`` is how clients name it, with its credentials in it if it wants any."""

    auth: tuple[str, str] | None = None

    @property
    def url(self) -> str:
        userinfo = "" if self.auth is None else ":".join(quote(part, safe="") for part in self.auth) + "@"
        return f"{self.scheme}://{userinfo}{self.host}:{self.port}"

    @property
    def tunnels(self) -> list[str]:
        """The targets of CONNECT, in the order of their coming."""
        return [request.target for request in self.requests if request.method == "CONNECT"]


P = TypeVar("P", bound=Port)


class Origins:
    """Opens ports, each an origin of its own, and closes them all with the test."""

    def __init__(self, origin: OriginProcess, ca: Authority) -> None:
        self._origin, self._ca = origin, ca
        self._open: list[Port] = []

    def _kept(self, port: P) -> P:
        self._open.append(port)
        return port

    def http(self, host: str = "127.0.0.1", greets: Iterable[str] = ()) -> Mirror:
        """A plain port.  ``greets``: what the first, second, … connection gets before anything is read of it:
        "serve", "silent", "close", "reset", "garbage" or "drip"; the last one repeats."""
        return self._kept(Mirror(self._origin, host, "http", greets=list(greets)))

    def https(
        self,
        ca: Authority | None = None,
        *,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        expired: bool = False,
        wants: Authority | None = None,
        versions: tuple[str | None, str | None] = (None, None),
        greets: Iterable[str] = (),
        host: str = "127.0.0.1",
        shows: Certificate | None = None,
        ciphers: str | None = None,
    ) -> Mirror:
        """A TLS port.  ``wants``: the CA that a client's certificate must come from; ``versions``: the least and the
        greatest, as in ssl.TLSVersion ("TLSv1_2").  ``greets`` other than "serve" end no handshake.  ``shows``: its
        certificate; ``ciphers`` are OpenSSL's."""
        tls = {**self._tls(ca, names, expired, wants, versions, shows), "ciphers": ciphers}
        return self._kept(Mirror(self._origin, host, "https", tls=tls, greets=list(greets)))

    def _tls(
        self,
        ca: Authority | None,
        names: Sequence[str],
        expired: bool = False,
        wants: Authority | None = None,
        versions: tuple[str | None, str | None] = (None, None),
        shows: Certificate | None = None,
    ) -> dict[str, Any]:
        return {
            "cert": str((shows or (ca or self._ca).server(*names, expired=expired)).both),
            "client_ca": None if wants is None else str(wants.path),
            "minimum_version": versions[0],
            "maximum_version": versions[1],
        }

    def proxy(
        self,
        *,
        tls: bool = False,
        auth: tuple[str, str] | None = None,
        connect: int | str | None = None,
        plain: int | None = None,
        cut_after: int | None = None,
        host: str = "127.0.0.1",
    ) -> Proxy:
        """A forward proxy.  ``connect``: what CONNECT gets instead of a tunnel (a status, "hang", "close", "garbage");
        ``plain``: the status that plain requests get; ``cut_after``: it dies after so many bytes to the client."""
        how: dict[str, Any] = {"connect": connect, "plain": plain, "cut_after": cut_after}
        if auth is not None:
            how["auth"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        server = self._tls(None, ("localhost", "127.0.0.1")) if tls else None
        opened = Proxy(self._origin, host, "https" if tls else "http", tls=server, proxy=how)
        opened.auth = auth
        return self._kept(opened)

    def refusing(self) -> Port:
        """A port that refuses every connection."""
        return self._kept(Port(self._origin, "127.0.0.1", "http", kind="refusing"))

    def full(self) -> Port:
        """A port whose backlog has no place left: connecting never ends."""
        return self._kept(Port(self._origin, "127.0.0.1", "http", kind="full"))

    def silent(self, scheme: str = "http") -> Mirror:
        """A port that accepts and never answers; with "https" the handshake never begins."""
        return self.https(greets=["silent"]) if scheme == "https" else self.http(greets=["silent"])

    def resetting(self) -> Mirror:
        """A port that accepts, then resets."""
        return self.http(greets=["reset"])

    def hanging_up(self) -> Mirror:
        """A port that accepts, then closes without a byte."""
        return self.http(greets=["close"])

    def __enter__(self) -> Origins:
        return self

    def __exit__(self, *failed: object) -> None:
        for port in self._open:
            port.close()
        self._open.clear()
