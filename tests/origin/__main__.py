"""The control channel.  In: one JSON command a line on stdin.  Out: one JSON answer a line on stdout, in order.

Every command is short; none of them waits for a client.  The process ends with its stdin: no test run leaves it behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import sys
import threading
import traceback
from itertools import count
from typing import Any

from .house import Closed, Cuts, Listener, Play, Tree

_listeners: dict[int, Any] = {}
_numbers = count(1)


def listen(
    kind: str = "http",
    host: str = "127.0.0.1",
    tls: dict[str, Any] | None = None,
    greets: list[str] | None = None,
    proxy: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Open a port: "http" (with ``tls``: https), "refusing" or "full"."""
    number = next(_numbers)
    opened = Listener(host, tls, greets or [], proxy) if kind == "http" else Closed(host, kind == "full")
    _listeners[number] = opened
    return {"id": number, "port": opened.port}


def close(id: int) -> None:
    _listeners.pop(id).close()


def play(id: int, path: str, scripts: list[dict[str, Any]]) -> None:
    _listeners[id].plays[path] = Play(scripts)


def tree(id: int, prefix: str, count: int, size: list[int], seed: str) -> None:
    _listeners[id].trees.append(Tree(prefix, count, (size[0], size[1]), seed))


def tree_hits(id: int, prefix: str) -> dict[str, int]:
    return next(dict(one.hits) for one in _listeners[id].trees if one.prefix == prefix)


def cuts(id: int, prefix: str, data: str, end: str) -> None:
    _listeners[id].trees.append(Cuts(prefix, base64.b64decode(data), end))


def release(id: int, path: str) -> None:
    _listeners[id].plays[path].release()


def latency(id: int, seconds: float) -> None:
    _listeners[id].latency_s = seconds


def renew(id: int, cert: str) -> None:
    _listeners[id].renew(cert)


def drop(id: int, reset: bool) -> None:
    _listeners[id].drop(reset)


def seen(id: int, path: str) -> dict[str, int]:
    """How often a path was asked for, and how often its gate was reached."""
    one = _listeners[id].plays[path]
    return {"hits": one.hits, "at_gate": one.at_gate}


def requests(id: int, path: str | None = None) -> list[dict[str, Any]]:
    """Every request at a listener, or at one path of it, in the order of their coming."""
    return [one.plain() for one in list(_listeners[id].requests) if path in (None, one.path)]


def stats(id: int) -> dict[str, int]:
    listener = _listeners[id]
    connections = list(listener.connections)
    return {"accepted": len(connections), "open": sum(one.open for one in connections), "hits": listener.hits}


def connections(id: int) -> list[dict[str, Any]]:
    return [one.plain() for one in list(_listeners[id].connections)]


_COMMANDS = {
    command.__name__: command
    for command in (
        listen,
        close,
        play,
        tree,
        tree_hits,
        cuts,
        release,
        latency,
        renew,
        drop,
        seen,
        requests,
        stats,
        connections,
    )
}


def _obeyed(line: str) -> dict[str, Any]:
    try:
        name, arguments = json.loads(line)
        return {"ok": _COMMANDS[name](**arguments)}
    except Exception:
        return {"error": traceback.format_exc()}


def main() -> None:
    """Obey until stdin ends."""
    # Hundreds of connections, each a thread and a descriptor: small stacks, every descriptor there is.
    threading.stack_size(512 * 1024)
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_obeyed(line)) + "\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
