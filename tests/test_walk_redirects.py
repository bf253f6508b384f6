"""Redirects of a download: where they lead to, what goes along, what is never read."""

from __future__ import annotations

import time
from typing import Any

import pytest

import geofetch
from geofetch.errors import BadResponse, RedirectLoop, RedirectRefused
from geofetch.session import Session
from geofetch.spec import Profile, Spec
from tests.origin.content import made
from tests.origin.wire import Request
from tests.support.certs import Authority
from tests.support.diary import sha256
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror, Origins
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = made(1_000, "redirects")
SECRET = "s3cret"


def one(source: str, **how: Any) -> geofetch.Outcome:
    spec = {name: how.pop(name) for name in ("profile", "digests") if name in how}
    with pooled(retries=0, **how) as pool:
        (outcome,) = pool.map([Spec(source, **spec)])
    return outcome


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_the_source_stays_the_one_that_was_asked(
    mirror: Mirror, spotless: Leftovers, status: int
) -> None:
    final = mirror.serves(BODY)
    start = mirror.chain(final, 3, status)
    outcome = one(start.url, digests=sha256(BODY))
    assert outcome.state == "stored"
    assert outcome.source == start
    assert outcome.attempts[0].head is not None
    assert outcome.attempts[0].head.url == final.url
    assert [request.method for request in mirror.requests] == ["GET"] * 4


@pytest.mark.parametrize("location", ["relative", "/9/absolute", "//{host}/9/absolute", "/9/t%C3%A4st", "/9/a b"])
def test_a_location_may_be_written_in_any_way(mirror: Mirror, location: str) -> None:
    mirror.serves(BODY, at="/9/relative")
    mirror.serves(BODY, at="/9/absolute")
    mirror.serves(BODY, at="/9/t%C3%A4st")
    mirror.serves(BODY, at="/9/a%20b")
    start = mirror.redirects(location.format(host=f"127.0.0.1:{mirror.port}"), at="/9/start")
    assert one(start.url).state == "stored"


def test_the_limit_of_redirects_is_exact(mirror: Mirror, spotless: Leftovers) -> None:
    session = Session()
    session.max_redirects = 5
    final = mirror.serves(BODY)
    assert one(mirror.chain(final, 5).url, session=session).ok
    outcome = one(mirror.chain(final, 6).url, session=session)
    assert type(outcome.error) is RedirectLoop
    assert "more than 5 redirects" in str(outcome.error)
    assert final.hits == 1


def test_a_loop_ends(mirror: Mirror, spotless: Leftovers) -> None:
    loop = mirror.loops()
    outcome = one(loop.url)
    assert type(outcome.error) is RedirectLoop
    assert loop.hits == 31


@pytest.mark.parametrize(
    "location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "gopher://x/", "javascript:x"]
)
def test_a_redirect_to_anything_but_http_is_refused(mirror: Mirror, spotless: Leftovers, location: str) -> None:
    outcome = one(mirror.redirects(location).url)
    assert type(outcome.error) is RedirectRefused
    assert outcome.error.source == outcome.spec.source


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        pytest.param([], BadResponse, id="none"),
        pytest.param([("Location", "")], BadResponse, id="empty"),
        pytest.param([("Location", "/a"), ("Location", "/b")], BadResponse, id="two"),
        pytest.param([("Location", "http://[::1")], RedirectRefused, id="no-url"),
        pytest.param([("Location", "http://:80/")], RedirectRefused, id="no-host"),
        pytest.param([("Location", "http://a:99999/")], RedirectRefused, id="no-port"),
    ],
)
def test_a_redirect_to_nowhere(mirror: Mirror, spotless: Leftovers, headers: Any, kind: type) -> None:
    outcome = one(mirror.serves(status=302, headers=headers).url)
    assert type(outcome.error) is kind


def test_the_same_location_twice_is_one(mirror: Mirror) -> None:
    final = mirror.serves(BODY)
    assert one(mirror.serves(status=302, headers=[("Location", final.url)] * 2).url).ok


@pytest.mark.parametrize("endless", [True, False], ids=["endless", "stalled"])
def test_the_body_of_a_redirect_is_not_waited_for(mirror: Mirror, spotless: Leftovers, endless: bool) -> None:
    final = mirror.serves(BODY)
    body: dict[str, Any] = {"endless": True} if endless else {"stall": 10, "body": b"x" * 100}
    start = mirror.serves(status=302, headers={"Location": final.url}, **{"body": b"x" * 1000, **body})
    began = time.monotonic()
    outcome = one(start.url)
    assert outcome.ok
    assert outcome.fetched == len(BODY)
    assert time.monotonic() - began < 5
    # Closed, not drained, and so not used again.
    assert start.connections[0].number != final.connections[0].number


def test_from_https_to_http_is_refused(secure: Mirror, mirror: Mirror, ca: Authority) -> None:
    open_one = mirror.serves(BODY)
    outcome = one(secure.redirects(open_one).url, profile=Profile(ca=str(ca.path)))
    assert type(outcome.error) is RedirectRefused
    assert "from https" in str(outcome.error)
    assert open_one.hits == 0


def test_from_http_to_https_is_followed(secure: Mirror, mirror: Mirror, ca: Authority) -> None:
    assert one(mirror.redirects(secure.serves(BODY)).url, profile=Profile(ca=str(ca.path))).ok


# ------------------------------------------------------------------------------------------------------ what goes along


PROFILE = Profile(headers={"X-Api-Key": SECRET, "Cookie": f"k={SECRET}", "PRIVATE-TOKEN": SECRET}, auth=("me", SECRET))


def said(request: Request) -> str:
    return repr(request.headers)


def test_within_an_origin_everything_goes_along(mirror: Mirror) -> None:
    final = mirror.serves(BODY)
    one(mirror.redirects(final).url, profile=PROFILE).raise_for_error()
    assert final.request.header("X-Api-Key") == SECRET
    assert final.request.header("Authorization") is not None
    assert final.request.header("Cookie") == f"k={SECRET}"


@pytest.mark.parametrize("way", ["profile", "session"])
@pytest.mark.parametrize("other", ["port", "host"])
def test_another_origin_is_told_nothing_of_who_we_are(
    origins: Origins, mirror: Mirror, spotless: Leftovers, way: str, other: str
) -> None:
    elsewhere = origins.http() if other == "port" else mirror
    final = elsewhere.serves(BODY)
    target = final.url if other == "port" else final.via("localhost")
    start = mirror.redirects(target)
    how: dict[str, Any] = {"profile": PROFILE}
    if way == "session":
        session = Session(PROFILE)
        session.headers["X-Mine"] = SECRET
        session.cookies.set("jar", SECRET)
        how = {"session": session}
    one(start.url, **how).raise_for_error()
    assert SECRET in said(start.request)
    assert SECRET not in said(final.request)
    for name in ("Authorization", "Cookie", "X-Api-Key", "PRIVATE-TOKEN", "X-Mine"):
        assert final.request.header(name) is None


def test_nothing_returns_on_the_way_back(origins: Origins, mirror: Mirror) -> None:
    final = mirror.serves(BODY)
    there = origins.http().redirects(final)
    start = mirror.redirects(there)
    one(start.url, profile=PROFILE).raise_for_error()
    assert SECRET in said(start.request)
    assert SECRET not in said(there.request)
    assert SECRET not in said(final.request)


def test_another_origin_sees_no_client_certificate(origins: Origins, ca: Authority) -> None:
    # These two ask for a certificate; the second one is another origin, and lets in whoever has none.
    first, second = origins.https(wants=ca), origins.https()
    final = second.serves(BODY)
    start = first.redirects(final)
    certificate = ca.client("me")
    one(start.url, profile=Profile(ca=ca.pem, cert=str(certificate.both))).raise_for_error()
    assert [connection.client for connection in start.connections] == ["me"]
    assert [connection.client for connection in final.connections] == [None]


def test_a_slot_moves_along_with_a_redirect(origins: Origins, spotless: Leftovers) -> None:
    """Caps by host count the host that sends the file, not the one that redirected to it."""
    files = origins.http()
    finals = [files.serves(BODY, name=f"f{n}", latency_s=0.02) for n in range(12)]
    starts = [origins.http().redirects(final) for final in finals]
    with pooled(8, per_host=2) as pool:
        outcomes = pool.map([Spec(start.url, path=f"f{n}") for n, start in enumerate(starts)])
    assert {outcome.state for outcome in outcomes} == {"stored"}
    assert files.accepted <= 2
