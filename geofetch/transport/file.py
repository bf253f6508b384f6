"""``file://`` as requests answers it: a Response over a local file, opened for reading and never anything else.

In: a GET or HEAD of a file URL.  Out: a Response: 200, 403 or 404.  Never: a write; a redirect that leads here
(session.py and stream.py see to that).
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import InvalidURL
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from .adapter import answered

__all__ = ["FileAdapter", "path_of"]

_STATUS = {
    errno.ENOENT: (404, "Not Found"),
    errno.ENOTDIR: (404, "Not Found"),
    errno.ENAMETOOLONG: (404, "Not Found"),
    errno.ELOOP: (404, "Not Found"),
    errno.EACCES: (403, "Forbidden"),
    errno.EPERM: (403, "Forbidden"),
    errno.EISDIR: (403, "No plain file"),
    errno.ENXIO: (403, "No plain file"),
}


def path_of(url: str) -> bytes:
    """The local path of a file URL: percent-decoded once, on this machine (RFC 8089: no host, or localhost)."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidURL(f"{url!r} is no file on this machine")
    path = unquote_to_bytes(parts.path)
    if not path.startswith(b"/") or b"\0" in path:
        raise InvalidURL(f"{url!r} holds no absolute path")
    return path


class FileAdapter(BaseAdapter):
    """Local files through requests' door."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _response(request, 405, "Method Not Allowed", io.BytesIO(), {"Allow": "GET, HEAD"})
        path = path_of(request.url or "")  # an InvalidURL is an OSError, as all of requests' errors are
        try:
            file, size = _opened(path)
        except OSError as exc:
            status, reason = _STATUS.get(exc.errno or 0, (500, os.strerror(exc.errno or errno.EIO)))
            return _response(request, status, reason, io.BytesIO(), {"Content-Length": "0"})
        if request.method == "HEAD":
            file.close()
            file = io.BytesIO()
        return answered(_response(request, 200, "OK", file, {"Content-Length": str(size)}))

    def close(self) -> None:
        """Nothing is kept."""


def _opened(path: bytes) -> tuple[BinaryIO, int]:
    # O_NONBLOCK: opening a fifo would wait for its writer for ever; what is no plain file is refused below.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EISDIR, "no plain file")
        return io.BufferedReader(_Bounded(open(fd, "rb", buffering=0), found.st_size), 256 * 1024), found.st_size
    except BaseException:
        os.close(fd)
        raise


class _Bounded(io.RawIOBase):
    """A file up to the size that its answer told: what grows meanwhile is not part of it."""

    def __init__(self, file: io.FileIO, left: int) -> None:
        self._file = file
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= size or 0
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _response(request: PreparedRequest, status: int, reason: str, body: BinaryIO, headers: dict[str, str]) -> Response:
    response = Response()
    response.status_code = status
    response.reason = reason
    response.url = request.url or ""
    response.request = request
    response.headers = CaseInsensitiveDict(headers)
    response.raw = HTTPResponse(
        body=body,
        headers=headers,
        status=status,
        reason=reason,
        preload_content=False,
        request_method=request.method,
        request_url=request.url,
    )
    return response
