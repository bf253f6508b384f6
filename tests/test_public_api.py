"""The door: what geofetch shows, and that showing it costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import requests

import geofetch

EXPECTED = [
    "Attempt",
    "BadResponse",
    "BadStatus",
    "Cancelled",
    "DeadlineExceeded",
    "Digest",
    "DigestMismatch",
    "FetchError",
    "FileStore",
    "IntegrityError",
    "FsspecStore",
    "MemoryStore",
    "NotFound",
    "Outcome",
    "Pool",
    "Profile",
    "Profiles",
    "ProxyFailure",
    "RateLimited",
    "RecordError",
    "Recorder",
    "RedirectLoop",
    "Report",
    "RedirectRefused",
    "Secret",
    "S3Store",
    "Session",
    "SizeMismatch",
    "Source",
    "SourceError",
    "SourcesExhausted",
    "Spec",
    "SpecError",
    "Stage",
    "Stalled",
    "Store",
    "StoreError",
    "Tally",
    "TempStore",
    "TooLarge",
    "Truncated",
    "Unauthorized",
    "Undecodable",
    "Unreachable",
    "UntrustedTLS",
    "Verdict",
    "__version__",
    "configure",
    "delete",
    "fetch",
    "get",
    "head",
    "options",
    "patch",
    "patch_all",
    "patch_requests",
    "post",
    "put",
    "read_manifest",
    "repair",
    "request",
    "verify",
]


def test_the_door_shows_these_names_and_no_other() -> None:
    assert sorted(geofetch.__all__) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_name_of_the_door_opens(name: str) -> None:
    assert getattr(geofetch, name) is not None
    assert name in dir(geofetch)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nectar'"):
        _ = geofetch.nectar  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["get", "head", "options", "post", "put", "patch", "delete", "request"])
def test_the_verbs_take_what_requests_takes(verb: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, verb)) for module in (geofetch, requests))
    assert list(ours.parameters) == list(theirs.parameters)


def test_a_session_is_a_requests_session() -> None:
    assert issubclass(geofetch.Session, requests.Session)


def test_importing_it_changes_nothing_and_loads_next_to_nothing() -> None:
    script = """
import sys, socket, ssl, threading, time
before = socket.socket, ssl.SSLContext, threading.Thread, time.sleep
import geofetch
assert before == (socket.socket, ssl.SSLContext, threading.Thread, time.sleep)
heavy = {"gevent", "requests", "urllib3", "peewee", "rich", "click", "sqlite3", "boto3", "botocore"} & set(sys.modules)
assert not heavy, heavy
geofetch.Pool, geofetch.fetch, geofetch.get, geofetch.S3Store, geofetch.FsspecStore
assert before == (socket.socket, ssl.SSLContext, threading.Thread, time.sleep)
assert "gevent.monkey" not in sys.modules or not __import__("gevent.monkey").monkey.saved
heavy = {"peewee", "rich", "click", "sqlite3", "boto3", "botocore"} & set(sys.modules)
assert not heavy, heavy
print("as it was")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("as it was", "")
