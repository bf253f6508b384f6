"""Every error constructs, pickles, copies, and says source and reason; and is what requests' users catch."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle

import pytest
import requests

from geofetch import errors
from geofetch.errors import FetchError
from geofetch.spec import Profile, Source, Spec

SECRET = "canary-5f3a"
EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, FetchError)]


def told(kind: type[FetchError]) -> FetchError:
    source = Source(f"http://user:{SECRET}@mirror.example/a.rpm?token={SECRET}", profile=Profile(auth=("me", SECRET)))
    response = requests.Response()
    response.status_code = 418
    response._content = b"short and stout"
    response._content_consumed = True
    error = kind("so it failed", spec=Spec(source), source=source, response=response, errno=errno.ENOSPC)
    error.__cause__ = OSError(errno.ENOSPC, "no space")
    error.attempts = (1, 2)
    return error


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_says_source_and_reason_and_no_secret(kind: type[FetchError]) -> None:
    error = told(kind)
    for text in (str(error), repr(error), error.url or ""):
        assert "mirror.example/a.rpm" in text
        assert SECRET not in text
    assert "so it failed" in str(error)
    assert kind.__name__ in repr(error)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickle_and_copy(kind: type[FetchError], again: object) -> None:
    error = told(kind)
    found = again(error)  # type: ignore[operator]
    assert type(found) is kind
    assert (str(found), found.errno, found.attempts) == (str(error), errno.ENOSPC, (1, 2))
    assert (found.source, found.spec, found.response.status_code) == (error.source, error.spec, 418)


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_can_be_made_of_nothing(kind: type[FetchError]) -> None:
    error = kind()
    assert (str(error), error.source, error.spec, error.response, error.url) == ("", None, None, None, None)


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_is_a_requests_error_and_documented(kind: type[FetchError]) -> None:
    assert issubclass(kind, requests.RequestException)
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


ALSO = {
    "SpecError": ValueError,
    "Unreachable": requests.ConnectionError,
    "UntrustedTLS": requests.exceptions.SSLError,
    "Stalled": requests.Timeout,
    "Truncated": requests.exceptions.ChunkedEncodingError,
    "Undecodable": requests.exceptions.ContentDecodingError,
    "BadResponse": requests.ConnectionError,
    "RedirectLoop": requests.TooManyRedirects,
    "RedirectRefused": requests.exceptions.InvalidURL,
    "ProxyFailure": requests.exceptions.ProxyError,
    "BadStatus": requests.HTTPError,
    "NotFound": requests.HTTPError,
    "DeadlineExceeded": requests.Timeout,
}


@pytest.mark.parametrize(("name", "theirs"), ALSO.items(), ids=list(ALSO))
def test_an_error_is_what_requests_calls_it(name: str, theirs: type[BaseException]) -> None:
    assert issubclass(getattr(errors, name), theirs)


def test_the_public_list_is_the_tree() -> None:
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in EVERY)
