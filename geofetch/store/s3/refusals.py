"""What the object store refused, in words that help.  In: an exception of botocore's.  Out: a StoreError; whether to
ask again; which of a few answers it was.

Never: I/O; a key, a signature or a token in a message, nor in the exception that is its cause.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from ...errors import StoreError

__all__ = ["GONE", "UNMET", "Refused", "code_of", "passing", "refused"]

#: What was asked for is not there.
GONE = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
#: A condition does not hold: somebody else was first.
UNMET = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})

_CREDENTIALS = "give other credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or S3Store's arguments"
_RIGHTS = f"let these credentials list the bucket, and read, write and delete below the prefix, or {_CREDENTIALS}"
_REGION = "the bucket lies in another region: give region="
_FULL = "free some space there, raise the quota, or store elsewhere"
#: Codes to the system's number, why, and what helps.  Not ENOENT: a bucket that is gone makes no file a missing one.
CODES: dict[str, tuple[int | None, str, str]] = {
    "NoSuchBucket": (None, "there is no such bucket", "create it, or give another one"),
    "AccessDenied": (errno.EACCES, "access is denied", _RIGHTS),
    "AllAccessDisabled": (errno.EACCES, "access is disabled", _RIGHTS),
    "403": (errno.EACCES, "access is denied", _RIGHTS),
    "InvalidAccessKeyId": (errno.EACCES, "the access key is not known there", _CREDENTIALS),
    "SignatureDoesNotMatch": (errno.EACCES, "the secret key is not the one of this access key", _CREDENTIALS),
    "ExpiredToken": (errno.EACCES, "the session token has expired", _CREDENTIALS),
    "InvalidToken": (errno.EACCES, "the session token is not valid", _CREDENTIALS),
    "RequestTimeTooSkewed": (None, "this machine's clock is wrong", "set it"),
    "PermanentRedirect": (None, "it is asked at the wrong endpoint", _REGION),
    "301": (None, "it is asked at the wrong endpoint", _REGION),
    "AuthorizationHeaderMalformed": (None, "the request was signed for another region", _REGION),
    "InvalidBucketName": (None, "no bucket can have that name", "give another one"),
    "QuotaExceeded": (errno.EDQUOT, "the quota is used up", _FULL),
    "XMinioStorageFull": (errno.ENOSPC, "it is full", _FULL),
    "InsufficientStorage": (errno.ENOSPC, "it is full", _FULL),
    "507": (errno.ENOSPC, "it is full", _FULL),
    "EntityTooLarge": (errno.EFBIG, "the file is too large for it", "give a larger part_bytes, or store elsewhere"),
    "KeyTooLongError": (errno.ENAMETOOLONG, "the key is too long", "give the spec a shorter path"),
    "InvalidObjectState": (None, "the object lies in an archive", "restore it first"),
    "BadDigest": (errno.EIO, "other bytes arrived there than were sent", "store it again"),
    "XAmzContentSHA256Mismatch": (errno.EIO, "other bytes arrived there than were sent", "store it again"),
    "NoSuchUpload": (None, "the upload was aborted by somebody else", "store it again"),
}
#: What goes by, if the same is asked again a little later.
_PASSING = re.compile(
    r"SlowDown|.*Throttl.*|TooManyRequests|ServiceUnavailable|InternalError|RequestTimeout|OperationAborted|BadDigest"
    r"|.*Mismatch|429|50[0234]"
)
#: Exceptions of botocore's below HTTP, by name: no connection, or it broke.
_BROKEN = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"}
    | {"ProxyConnectionError", "ResponseStreamingError", "IncompleteReadError", "HTTPClientError"}
)
_WORDS = {
    "NoCredentialsError": f"there are no credentials; {_CREDENTIALS}",
    "PartialCredentialsError": f"the credentials are not complete; {_CREDENTIALS}",
    "CredentialRetrievalError": f"the credentials could not be had; {_CREDENTIALS}",
    "TokenRetrievalError": f"the login has expired; {_CREDENTIALS}",
    "UnauthorizedSSOTokenError": f"the login has expired; {_CREDENTIALS}",
    "SSOTokenLoadError": f"the login has expired; {_CREDENTIALS}",
    "SSLError": "TLS failed: who answers cannot be shown to be who was meant; give its CA by AWS_CA_BUNDLE",
    "ReadTimeoutError": "it did not answer in time; is it overloaded?",
}


class Refused(StoreError):
    """What the server said to one question; ``code`` is S3's word for it."""

    code: str = ""


def code_of(exc: BaseException) -> str:
    """S3's word for what it refused; "" where nobody answered."""
    answer: Any = getattr(exc, "response", None)
    code = str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
    return "" if code == "Unknown" else code


def passing(exc: BaseException) -> bool:
    """Whether the same question may be answered a little later."""
    code = code_of(exc)
    if code:
        # A wrong signature is a mismatch that stays one.
        return code != "SignatureDoesNotMatch" and _PASSING.fullmatch(code) is not None
    status = _status(exc)
    return status >= 500 if status else type(exc).__name__ in _BROKEN


def refused(exc: BaseException, doing: str) -> Refused:
    """The StoreError to raise from it; what the exception itself knows of keys and signatures is taken away."""
    code = code_of(exc)
    number, why, cure = CODES.get(code, (errno.ENOENT if code in GONE else None, "", ""))
    if code in GONE:
        why = "nothing is stored there"
    if not why:
        why = _unknown(exc, code)
    found = Refused(f"{doing}: {why}" + (f"; {cure}" if cure else ""), errno=number)
    found.code = code
    _cleaned(exc)
    return found


def _unknown(exc: BaseException, code: str) -> str:
    if code or _status(exc):
        said = str(exc.response["Error"].get("Message", ""))  # type: ignore[attr-defined]
        return f"the object store refuses ({_masked(f'{code or _status(exc)}: {said}'.rstrip(': '))})"
    name = type(exc).__name__
    if name in _WORDS:
        return _WORDS[name]
    if name in _BROKEN:
        return "the object store does not answer; is it running, and the endpoint right?"
    return _masked(f"{name}: {exc}")


def _status(exc: BaseException) -> int:
    answer: Any = getattr(exc, "response", None)
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0) if isinstance(answer, dict) else 0


def _masked(text: str) -> str:
    # Access keys as Amazon makes them, signatures and tokens in a query or a header.
    text = re.sub(r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}\b", "***", text)
    return re.sub(r"(?i)((?:signature|credential|token|x-amz-[\w-]+)\s*[=:]\s*)[^\s&,;]+", r"\1***", text)


def _cleaned(exc: BaseException) -> None:
    answer: Any = getattr(exc, "response", None)
    if isinstance(answer, dict):
        error = answer.get("Error", {})
        answer["Error"] = {name: _masked(str(error[name])) for name in ("Code", "Message") if name in error}
    # Some servers say in their message whose key it was, and the exception's own text repeats it.
    exc.args = tuple(_masked(one) if isinstance(one, str) else one for one in exc.args)
