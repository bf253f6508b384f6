"""Exit codes: stable, documented, one for each kind of cause.

In: errors.  Out: numbers, and what they mean.  Never: an import of what raises the errors; ``--help`` shows the table.

One cause gives its own code, however many files and sources it struck; several different ones give 3, and ``--json``
tells each file's.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

__all__ = [
    "CLOSED",
    "LOCKED",
    "MEANINGS",
    "MIXED",
    "OK",
    "UNEXPECTED",
    "USAGE",
    "WRONG",
    "code_of",
    "of_all",
    "of_signal",
]

OK, UNEXPECTED, USAGE, MIXED = 0, 1, 2, 3
#: ``verify``, ``repair``: something is wrong with a stored file.
WRONG = 11
LOCKED = 13
#: Whoever read stdout went away, as a shell counts SIGPIPE.
CLOSED = 141

MEANINGS: dict[int, str] = {
    0: "all is well: every file is there, proven",
    1: "unexpected: a bug, or a hook of a plugin's that failed",
    2: "usage: options, URLs, a manifest, a digest, a profile or its secret that cannot be meant, a name unknown",
    3: "different causes: several files failed, or the sources of one",
    4: "network: name, connection, proxy, or an answer cut short",
    5: "time: too slow, or the deadline is over",
    6: "HTTP: refused with another 4xx, or redirected in circles or to nowhere",
    7: "not found: 404, 410",
    8: "not let in: 401, 403, 407",
    9: "server error, or too many requests: 5xx, 429",
    10: "TLS: who answers cannot be shown to be who was meant",
    11: "wrong bytes: size, digest or encoding; verify, repair: something stored is missing or corrupt",
    12: "storage: disk full, no permission, name taken",
    13: "state: records locked, damaged or of a later version; doctor: something stands in the way",
    130: "interrupted by Ctrl-C; what was done is kept and recorded",
    143: "ended by SIGTERM; what was done is kept and recorded",
}

#: The code of an error's class; the nearest class that stands here decides.
CAUSES: dict[str, int] = {
    "SpecError": 2,
    "Unreachable": 4,
    "ProxyFailure": 4,
    "Truncated": 4,
    "BadResponse": 4,
    "Stalled": 5,
    "DeadlineExceeded": 5,
    "BadStatus": 6,
    "RedirectLoop": 6,
    "RedirectRefused": 6,
    "NotFound": 7,
    "Unauthorized": 8,
    "RateLimited": 9,
    "UntrustedTLS": 10,
    "IntegrityError": 11,
    "Undecodable": 11,
    "StoreError": 12,
    "RecordError": 13,
}


def code_of(error: BaseException) -> int:
    """The code of one error; of several sources that all failed, what they have in common."""
    each = getattr(error, "errors", None)
    if each:
        return of_all(code_of(one) for _, one in each)
    found = next((CAUSES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in CAUSES), UNEXPECTED)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if found == CAUSES["BadStatus"] and status is not None and status >= 500:
        return CAUSES["RateLimited"]
    if found == CAUSES["ProxyFailure"] and status == 407:
        return CAUSES["Unauthorized"]
    return found


def of_all(codes: Iterable[int]) -> int:
    """The code of a whole: 0, the only one there is, or 3."""
    different = set(codes) - {OK}
    return OK if not different else different.pop() if len(different) == 1 else MIXED


def of_signal(number: int) -> int:
    """The code of an end by a signal, as shells count; a terminal that went away counts as SIGTERM."""
    return 128 + (signal.SIGTERM if number == signal.SIGHUP else number)


def table() -> str:
    """The codes and what they mean, a line each."""
    return "\n".join(f"{code:>4}  {meaning}" for code, meaning in MEANINGS.items())
