"""What a server says in an error: told, and never able to drive the terminal that shows it."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
import requests
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter

from geofetch.errors import BadResponse, BadStatus, RedirectRefused, SourceError, Unreachable
from geofetch.session import Session
from tests.origin.scenes import raw
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused

ESCAPES = "\x1b]0;owned\x07\x9b2J\x08"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        pytest.param(f"HTTP/1.1 500 Bad {ESCAPES} day\r\nContent-Length: 0\r\n\r\n", BadStatus, id="reason"),
        pytest.param(f"{ESCAPES} hello\r\n", BadResponse, id="status-line"),
        pytest.param(f"HTTP/1.1 200 OK\r\nContent-Length: {ESCAPES}\r\n\r\n", BadResponse, id="length"),
        pytest.param(f"HTTP/1.1 302 OK\r\nLocation: file:///{ESCAPES}\r\n\r\n", RedirectRefused, id="location"),
        pytest.param(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {ESCAPES}\r\n\r\n", BadResponse, id="encoding"),
    ],
)
def test_no_control_character_of_a_server_reaches_a_message(mirror: Mirror, head: str, kind: type[SourceError]) -> None:
    error = refused(kind, mirror.plays([raw(head.encode("latin-1"))]).url)
    assert str(error).isprintable()


def test_long_words_of_a_server_cost_no_more_than_their_length(mirror: Mirror) -> None:
    """A search that began anew at each letter took 11 s for these, in which nobody else had a turn."""
    url = mirror.plays([raw(b"a" * 60_000 + b"\r\n\r\n")]).url
    began = process_time()
    error = refused(BadResponse, url)
    assert process_time() - began < 2
    assert len(str(error)) < 500


def test_a_url_in_the_words_of_an_adapter_is_masked() -> None:
    class Talkative(BaseAdapter):
        def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
            raise requests.ConnectionError(f"no way to {request.url}")

        def close(self) -> None:
            pass

    session = Session()
    session.mount("http://", Talkative())
    error = refused(Unreachable, "http://user:secret@h.test/x?token=secret", session)
    assert "no way to http://h.test/x?token=***" in str(error)
    assert "secret" not in str(error)


def test_words_in_any_script_are_told_as_they_are(mirror: Mirror) -> None:
    with pytest.raises(BadStatus, match="status 418 Ich bin eine Teekännchen, déjà"):
        downloaded(mirror.serves(status=418, reason="Ich bin eine Teekännchen, déjà").url)
