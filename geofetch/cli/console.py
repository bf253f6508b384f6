"""What is told to people: lines on stderr, and the logs among them.

In: text, whoever made it.  Out: lines that drive no terminal and hold no secret, above the progress bars where there
are any.  Never: a word on stdout; an error because nobody reads.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable

__all__ = ["Console", "escaped", "redacted"]

NAME = "geofetch"
MASK = "***"
#: Shorter ones would mask half of every line, and are no secrets.
SECRET_LEAST = 4

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*[^\s'\"<>:;,]")
#: A query by itself, as urllib3 logs it: "GET /path?token=… HTTP/1.1".
_QUERY = re.compile(r"(?<=[\w/.%-])\?[^\s'\"<>]*=[^\s'\"<>]*")
_VALUE = re.compile(r"=[^&\s]*")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-amz-[\w-]*(?:token|customer-key))(['\"]?\s*[:=]\s*)[^\r\n]+"
)
#: A line by itself, as botocore logs it.
_SIGNATURE = re.compile(r"(?i)\b(signature:\s*)[0-9a-f]{40,}")


def escaped(text: str) -> str:
    """The text with everything escaped that drives a terminal or misleads who reads it, but for line breaks."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets, and without what looks like one: userinfo, values of queries, sign-in headers."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _URL.sub(lambda found: _shown(found[0]), text)
    text = _QUERY.sub(lambda found: _VALUE.sub("=" + MASK, found[0]), text)
    text = _SIGNATURE.sub(rf"\1{MASK}", text)
    return _HEADER.sub(lambda found: f"{found[1]}{found[2]}{MASK}", text)


def _shown(url: str) -> str:
    from ..names import shown

    return shown(url)


class Console:
    """Lines for people.  ``quiet`` leaves errors alone; ``loud`` is how often -v was said."""

    def __init__(self, quiet: bool = False, loud: int = 0) -> None:
        self.quiet = quiet
        self.loud = loud
        #: Where lines go while bars are drawn: above them.
        self.above: Callable[[str], None] | None = None
        self._secrets: list[str] = []

    def hide(self, secrets: Iterable[str]) -> None:
        """From now on these are shown nowhere, whoever says them."""
        found = {one for one in secrets if len(one) >= SECRET_LEAST}
        # The longest first: one secret may hold another.
        self._secrets = sorted(found.union(self._secrets), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text as it may be shown."""
        return redacted(text, self._secrets)

    def say(self, text: str) -> None:
        """Something worth knowing; not said when quiet."""
        if not self.quiet:
            self.fail(text)

    def fail(self, text: str) -> None:
        """Something that went wrong."""
        self.line(f"{NAME}: {text}")

    def line(self, text: str) -> None:
        """A line as it is."""
        text = escaped(self.clean(text))
        try:
            if self.above is not None:
                self.above(text)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            self.above = None  # nobody reads; the work goes on

    # What the hub prints of a greenlet that failed comes this way: it is a stream as far as traceback is concerned.
    def write(self, text: str) -> None:
        if text.strip():
            self.line(text.rstrip("\n"))

    def flush(self) -> None:
        """Nothing: each line is out when it is written."""

    def listen(self) -> None:
        """From now on logs are lines here: warnings of everybody's, and of geofetch's what -v and -vv ask for."""
        root = logging.getLogger()
        root.addHandler(_Lines(self))
        root.setLevel(logging.ERROR if self.quiet else logging.WARNING)
        ours = logging.getLogger(NAME)
        level = logging.ERROR if self.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.loud, 2)]
        ours.setLevel(level)
        if self.loud >= 3:
            root.setLevel(logging.DEBUG)
        logging.captureWarnings(True)


class _Lines(logging.Handler):
    """Log records as lines of the console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.line(self.format(record))
        except Exception:
            # A record that does not format (%s for nothing) is a bug of whoever made it, and no reason to stop.
            self._console.line(f"{NAME}: a log message of {record.name} could not be shown")

    def format(self, record: logging.LogRecord) -> str:
        ours = record.name.partition(".")[0] == NAME
        text = f"{record.levelname.lower()}: {_without_traceback(record)}"
        if record.exc_info and self._console.loud:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        return f"{NAME}: {text}" if ours else f"{NAME}: {record.name}: {text}"


def _without_traceback(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
    return text
