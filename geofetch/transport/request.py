"""A request's head as bytes, for requests that hold nothing unusual.

In: method, target, headers, a small body.  Out: what goes over the wire, in one piece; None where urllib3
shall write it itself.  Never: a socket; generators, files, chunks, headers of bytes, values of several lines, whole
URLs for a proxy: urllib3 knows them all.

What it writes is what urllib3 writes, byte for byte (test_fast_requests holds them against each other).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from urllib3._version import __version__
from urllib3.util import SKIP_HEADER

__all__ = ["composed"]

#: A body up to this size travels with its head.
SMALL = 16 * 1024

_METHOD = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
#: What http.client takes, but for a whole URL: that is for a proxy, and names another host.
_TARGET = re.compile(r"(?!http)[!-~]+")
_HOST = re.compile(r"[-.\w:]+|\[[0-9a-fA-F:.]+\](:\d+)?", re.ASCII)
_NAME = re.compile(r"[^:\s][^:\r\n]*")
#: Methods for which no body is the rule, and no Content-Length is written without one.
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "TRACE", "OPTIONS", "CONNECT"})
_AGENT = f"python-urllib3/{__version__}"

#: Names of header fields found good, with the lower case of each; what programs use is few and always the same.
_names: dict[str, str] = {}


def composed(method: str, target: str, host: str, headers: Mapping[str, Any], body: Any) -> bytes | None:
    """The request whole; None if anything about it is not plain."""
    size = _size(method, body)
    target = target or "/"
    if size == UNUSUAL or not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target) or not _HOST.fullmatch(host):
        return None
    lines = [f"{method} {target} HTTP/1.1"]
    seen = set()
    for name, value in headers.items():
        lowered = _lowered(name)
        if lowered is None or type(value) is not str or value == SKIP_HEADER:
            return None
        seen.add(lowered)
        lines.append(f"{name}: {value}")
    if "transfer-encoding" in seen:
        return None
    lines[1:1] = _added(seen, host, size)
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        return None
    try:
        head = (text + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        return None
    return head + body if body else head


#: A body that urllib3 shall send itself.
UNUSUAL = -2
#: No body, and no word of it.
NOTHING = -1


def _size(method: str, body: Any) -> int:
    if body is None:
        return NOTHING if method.upper() in _BODILESS else 0
    return len(body) if type(body) is bytes and len(body) <= SMALL else UNUSUAL


def _added(seen: set[str], host: str, size: int) -> Iterable[str]:
    """What urllib3 and http.client add where it is not said, in their order."""
    if "host" not in seen:
        yield f"Host: {host}"
    if "accept-encoding" not in seen:
        yield "Accept-Encoding: identity"
    if size >= 0 and "content-length" not in seen:
        yield f"Content-Length: {size}"
    if "user-agent" not in seen:
        yield f"User-Agent: {_AGENT}"


def _lowered(name: Any) -> str | None:
    lowered = _names.get(name) if type(name) is str else None
    if lowered is None and type(name) is str and name.isascii() and _NAME.fullmatch(name):
        lowered = name.lower()
        if len(_names) < 1000:
            _names[name] = lowered
    return lowered
