"""What geofetch.Session is besides a requests.Session: a Profile, caps, connections that nobody closes for others.

That it behaves as requests' own does is test_session_twins.py's to say.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any

import gevent
import pytest
import requests
from gevent.threadpool import ThreadPool
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import AuthBase, HTTPDigestAuth

import geofetch
from geofetch import limits
from geofetch.errors import SpecError, Unauthorized
from geofetch.session import Session
from geofetch.spec import Profile
from geofetch.transport import Adapter
from tests.origin.scenes import Scene
from tests.support.certs import Authority
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused, session_of, side_by_side
from tests.support.walking import pooled


class Signed(AuthBase):
    """Auth by a header of its own; unlike requests' HTTPDigestAuth it can be pickled."""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["X-Signed"] = "1"
        return prepared


def test_it_is_a_requests_session(mirror: Mirror) -> None:
    assert isinstance(Session(), requests.Session)
    response = Session().get(mirror.serves(b"x").url)
    assert type(response) is requests.Response
    assert geofetch.Session is Session


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxied", [False, True], ids=["straight", "proxied"])
def test_a_refused_connection_is_told_in_requests_own_words(origins: Origins, scheme: str, proxied: bool) -> None:
    port, proxy = (origins.refusing().base.rpartition(":")[2] for _ in range(2))
    proxies = {"http": f"http://127.0.0.1:{proxy}", "https": f"http://127.0.0.1:{proxy}"} if proxied else None
    told = []
    for get in (requests.get, geofetch.get, Session().get):
        with pytest.raises(requests.ConnectionError, match=r"^HTTPS?ConnectionPool\(host='127.0.0.1', port=") as caught:
            get(f"{scheme}://127.0.0.1:{port}/a", proxies=proxies)
        told.append(str(caught.value))
    assert told[1:] == [told[0]] * 2


def test_an_answer_that_does_not_come_names_the_pool_as_requests_does(origins: Origins) -> None:
    with pytest.raises(requests.ReadTimeout, match=r"^HTTPConnectionPool\(host='127.0.0.1', port=\d+\): "):
        geofetch.get(origins.silent().base, timeout=0.2)


def test_closing_closes_nothing_that_others_share(mirror: Mirror) -> None:
    file = mirror.serves(b"x")
    other = Session()
    other.get(file.url)
    with Session() as session:
        session.get(file.url)
    session.close()
    other.get(file.url)
    assert session.get(file.url).content == b"x"  # as requests' own, it works on
    assert mirror.accepted == 1


def test_closing_does_not_end_an_answer_that_is_read(mirror: Mirror) -> None:
    file = mirror.serves(b"x" * 100, stall=50)
    with Session() as session:
        response = session.get(file.url, stream=True)
    file.release()
    assert response.content == b"x" * 100


# ----------------------------------------------------------------------------------------------------------- a profile


def test_what_a_profile_brings_goes_along(mirror: Mirror) -> None:
    file = mirror.serves(b"x")
    session = session_of(headers={"X-A": "1", "User-Agent": "me"}, auth=("user", "password"))
    session.get(file.url, headers={"X-B": "2"})
    session.get(file.url, headers={"X-A": "other"}, auth=("else", "where"))
    first, second = file.requests
    assert [first.header(name) for name in ("X-A", "X-B", "User-Agent")] == ["1", "2", "me"]
    assert first.header("Authorization") == "Basic dXNlcjpwYXNzd29yZA=="
    assert [second.header(name) for name in ("X-A", "Authorization")] == ["other", "Basic ZWxzZTp3aGVyZQ=="]


def test_auth_of_any_kind(mirror: Mirror) -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="here", nonce="abc", qop="auth"'}
    for call in (lambda session, url: session.get(url).content, lambda session, url: downloaded(url, session)[1]):
        file = mirror.plays([Scene(status=401, headers=challenge), Scene(body=b"in")])
        assert call(session_of(auth=HTTPDigestAuth("user", "password")), file.url) == b"in"
        assert (file.requests[1].header("Authorization") or "").startswith('Digest username="user"')
    file = mirror.serves(b"x")
    session_of(auth=Signed()).get(file.url)
    assert file.request.header("X-Signed") == "1"


GOOD = 'Digest realm="here", nonce="abc", qop="auth"'


SHARED_AUTH: dict[str, Callable[[str, AuthBase], bytes]] = {
    "of a call": lambda url, auth: geofetch.get(url, auth=auth, timeout=10).content,
    "of a session": lambda url, auth: _with_auth(auth).get(url, timeout=10).content,
    "of a profile": lambda url, auth: session_of(auth=auth).get(url, timeout=10).content,
    "of a profile's download": lambda url, auth: downloaded(url, session_of(auth=auth))[1],
}


def _with_auth(auth: AuthBase) -> Session:
    session = Session()
    session.auth = auth
    return session


def test_a_request_prepared_in_one_greenlet_answers_its_challenge_in_another(mirror: Mirror) -> None:
    good = {"WWW-Authenticate": GOOD}
    file = mirror.plays([Scene(status=401, headers=good), Scene(body=b"in")])
    session = _with_auth(HTTPDigestAuth("user", "password"))
    prepared = session.prepare_request(requests.Request("GET", file.url))
    (response,) = side_by_side([partial(session.send, prepared, timeout=10)])
    assert response.content == b"in"


def test_an_auth_may_take_its_hook_back_in_a_download(mirror: Mirror) -> None:
    class Once(AuthBase):
        def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
            prepared.register_hook("response", self.heard)
            return prepared

        def heard(self, response: requests.Response, **_: Any) -> None:
            assert response.request.deregister_hook("response", self.heard)

    assert downloaded(mirror.serves(b"x").url, session_of(auth=Once()))[1] == b"x"


def test_an_auth_may_bring_one_hook_as_it_is(mirror: Mirror) -> None:
    heard: list[int] = []

    class Plain(AuthBase):
        def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
            prepared.hooks = {"response": lambda response, **_: heard.append(response.status_code)}
            return prepared

    assert downloaded(mirror.serves(b"x").url, _with_auth(Plain()))[1] == b"x"
    assert downloaded(mirror.serves(b"x").url, session_of(auth=Plain()))[1] == b"x"
    assert heard == [200, 200]


@pytest.mark.parametrize("brought_by", SHARED_AUTH)
def test_greenlets_that_share_an_auth_answer_their_own_challenges(mirror: Mirror, brought_by: str) -> None:
    """requests' digest auth counts its answers by native thread: the others' seemed to be this one's second try."""
    auth, good = HTTPDigestAuth("user", "password"), {"WWW-Authenticate": GOOD}
    files = [mirror.plays([Scene(status=401, headers=good), Scene(body=b"in")]).url for _ in range(8)]
    assert side_by_side([partial(SHARED_AUTH[brought_by], url, auth) for url in files]) == [b"in"] * 8


def challenged(nonce: str, **how: Any) -> Scene:
    return Scene(status=401, headers={"WWW-Authenticate": GOOD.replace("abc", nonce)}, body=b"who?", **how)


def answers(*files: Handle) -> list[tuple[str, int] | None]:
    """By which nonce each request for these was signed, and as which use of it; None for one that was not."""
    told = [request.header("Authorization") for file in files for request in file.requests]
    found = [re.search(r'nonce="(\w+)".*nc=([0-9a-f]{8})', text or "") for text in told]
    return [(match[1], int(match[2], 16)) if match else None for match in found]


@pytest.mark.parametrize("brought_by", SHARED_AUTH)
def test_who_shares_an_auth_begins_with_the_challenge_that_was_answered_last(mirror: Mirror, brought_by: str) -> None:
    ask = partial(SHARED_AUTH[brought_by], auth=HTTPDigestAuth("user", "password"))
    first, stale = (mirror.plays([challenged(nonce), Scene(body=b"in")]) for nonce in ("one", "two"))
    *others, last = (mirror.serves(b"in") for _ in range(9))
    assert side_by_side([partial(ask, first.url)]) == [b"in"]
    assert side_by_side([partial(ask, file.url) for file in others]) == [b"in"] * 8
    assert answers(first) == [None, ("one", 1)]
    assert sorted(found for found in answers(*others) if found) == [("one", use) for use in range(2, 10)]
    assert side_by_side([partial(ask, stale.url)]) == side_by_side([partial(ask, last.url)]) == [b"in"]
    assert answers(stale, last) == [("one", 10), ("two", 1), ("two", 2)]


def test_a_challenge_is_told_to_nobody_but_its_own_origin(origins: Origins) -> None:
    """Its answer names user and realm, and uses up a number that its own server may miss."""
    one, other = origins.http(), origins.http()
    session = session_of(auth=HTTPDigestAuth("user", "password"))
    here, there = (
        one.plays([challenged("here"), Scene(body=b"in")]),
        other.plays([challenged("there"), Scene(body=b"in")]),
    )
    again = [one.serves(b"in"), other.serves(b"in"), one.serves(b"in")]
    for file in (here, there, *again):
        assert downloaded(file.url, session)[1] == b"in"
    assert answers(here, there) == [None, ("here", 1), None, ("there", 1)]
    assert answers(*again) == [("here", 2), ("there", 2), ("here", 3)]


def test_a_url_that_cannot_be_read_is_requests_to_refuse(mirror: Mirror) -> None:
    with pytest.raises(requests.exceptions.InvalidURL):
        Session().get("http://[1/", auth=HTTPDigestAuth("user", "password"))


def test_a_file_is_asked_for_twice_only_where_the_challenge_is_new(mirror: Mirror) -> None:
    scenes = [[challenged("one"), Scene(body=b"in")], *([Scene(body=b"in")] for _ in range(3))]
    files = [mirror.plays(scene, name=f"{number}") for number, scene in enumerate(scenes)]
    with pooled(1, session=session_of(auth=HTTPDigestAuth("user", "password"))) as pool:
        assert all(outcome.ok for outcome in pool.map([file.url for file in files]))
    assert answers(*files) == [None, ("one", 1), ("one", 2), ("one", 3), ("one", 4)]


def test_each_challenge_is_answered_by_itself_and_no_use_of_a_nonce_is_told_twice(mirror: Mirror) -> None:
    """While the body of a challenge comes, others answer theirs; and a server may give one that it gave before."""
    auth = HTTPDigestAuth("user", "password")
    files = [mirror.plays([challenged(f"n{number % 4}"), Scene(body=b"in")]) for number in range(8)]
    assert side_by_side([partial(downloaded, file.url, session_of(auth=auth)) for file in files])
    found = answers(*files)
    assert found[::2] == [None] * 8
    assert sorted(one for one in found if one) == [(f"n{number}", use) for number in range(4) for use in (1, 2)]
    again = mirror.plays([challenged("n0"), Scene(body=b"in")])
    assert side_by_side([partial(downloaded, again.url, session_of(auth=auth))])
    assert ("n0", 3) in answers(again)


def test_nobody_begins_with_a_challenge_before_its_answer_was_taken(mirror: Mirror) -> None:
    """Theirs might arrive first, and a server that goes by the order of the uses would refuse the answer."""
    session = session_of(auth=HTTPDigestAuth("user", "password"))
    slow = mirror.plays([challenged("slow"), Scene(body=b"in", stall="head")])
    other, wrong = mirror.serves(b"in"), mirror.plays([challenged("wrong")])
    asking = gevent.spawn(downloaded, slow.url, session)
    slow.arrived()
    assert side_by_side([partial(downloaded, other.url, session)])[0][1] == b"in"
    slow.release()
    assert asking.get(timeout=10)[1] == b"in"
    for _ in range(2):
        side_by_side([partial(refused, Unauthorized, wrong.url, session)])
    assert side_by_side([partial(downloaded, other.url, session)])[0][1] == b"in"
    assert answers(slow, other) == [None, ("slow", 1), None, ("slow", 4)]
    assert answers(wrong) == [("slow", 2), ("wrong", 1), ("slow", 3), ("wrong", 2)]


@pytest.mark.parametrize(
    ("challenge", "cause"),
    [
        pytest.param('Digest nonce="abc", qop="auth"', KeyError, id="no-realm"),
        pytest.param('Digest realm="here"', KeyError, id="no-nonce"),
        pytest.param('Digest realm="here", nonce', AttributeError, id="a-nonce-without-value"),
        pytest.param("Digest", KeyError, id="the-scheme-alone"),
    ],
)
@pytest.mark.parametrize("brought_by", ["profile", "session"])
def test_a_challenge_that_an_auth_chokes_on_is_its_sources_error(
    mirror: Mirror, challenge: str, cause: type[Exception], brought_by: str
) -> None:
    auth = HTTPDigestAuth("user", "password")
    session = session_of(auth=auth) if brought_by == "profile" else Session()
    session.auth = session.auth or auth
    good = {"WWW-Authenticate": GOOD}
    honest = mirror.plays([Scene(status=401, headers=good), Scene(body=b"in"), Scene(status=401, headers=good)])
    assert downloaded(honest.url, session)[1] == b"in"
    odd = mirror.serves(b"who?", status=401, headers={"WWW-Authenticate": challenge})
    error = refused(Unauthorized, odd.url, session)
    assert f"the challenge cannot be answered ({cause.__name__})" in str(error)
    assert type(error.__cause__) is cause
    assert (error.status, odd.hits) == (401, 1)
    # Nor does it keep the auth from answering others.
    other = mirror.plays([Scene(status=401, headers=good), Scene(body=b"in")])
    assert downloaded(other.url, session)[1] == b"in"
    with pytest.raises(cause):  # a call has what requests has
        session.get(odd.url, timeout=10)


def test_another_source_is_asked_where_a_challenge_cannot_be_answered(mirror: Mirror) -> None:
    odd = mirror.serves(status=401, headers={"WWW-Authenticate": "Digest"})
    open_to_all = mirror.serves(b"x")
    session = session_of(auth=HTTPDigestAuth("user", "password"))
    sources = [geofetch.Source(odd.url, 0), geofetch.Source(open_to_all.url, 1)]
    with pooled(session=session) as pool:
        (outcome,) = pool.map([geofetch.Spec(sources=sources)])
    assert [type(attempt.error) for attempt in outcome.attempts] == [Unauthorized, NoneType]


@pytest.mark.parametrize("status", [200, 401])
def test_what_a_hook_of_the_users_raises_is_nobodys_challenge(mirror: Mirror, status: int) -> None:
    def chokes(response: requests.Response, **_: Any) -> None:
        raise KeyError("mine")

    session = session_of(auth=HTTPDigestAuth("user", "password"))
    session.hooks["response"].append(chokes)
    with pytest.raises(KeyError, match="mine"):
        downloaded(mirror.serves(status=status).url, session)


def test_an_auth_that_fails_over_what_is_no_challenge_is_heard(mirror: Mirror) -> None:
    class Chokes(AuthBase):
        def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
            prepared.register_hook("response", lambda response, **_: response.headers["X-Missing"])
            return prepared

    session = session_of(auth=Chokes())
    with pytest.raises(KeyError, match="x-missing"):
        downloaded(mirror.serves(b"x").url, session)
    refused(Unauthorized, mirror.serves(status=403).url, session)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-Key": " canary"}, id="white-space-before"),
        pytest.param({"X-Key": "\tcanary"}, id="tab-before"),
        pytest.param({"X-Key": "canary-łódź"}, id="not-latin"),
        pytest.param({" X-Key": "canary"}, id="name"),
        pytest.param({"X Key:": "canary"}, id="name-with-a-colon"),
    ],
)
def test_a_header_that_cannot_be_sent_is_named_and_its_value_not_told(headers: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="Key") as caught:
        session_of(headers=headers)
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_profile_is_a_profile_and_a_cap_a_number() -> None:
    with pytest.raises(SpecError, match=r"a geofetch\.Profile, not dict"):
        Session({"ca": "x"})  # type: ignore[arg-type]
    for cap in ({"per_host": 0}, {"max_connections": -1}, {"per_host": 1.5}, {"per_host": True}):
        with pytest.raises(SpecError, match="whole number from 1"):
            Session(**cap)  # type: ignore[arg-type]


def test_a_session_for_another_source_takes_caps_and_nothing_else(mirror: Mirror) -> None:
    session = Session(Profile(headers={"X-A": "1"}), per_host=1)
    session.headers["X-B"] = "2"
    session.trust_env = False
    session.max_redirects = 3
    file = mirror.serves(b"x")
    other = session.with_profile(Profile(headers={"X-C": "3"}))
    other.get(file.url)
    assert [file.request.header(f"X-{name}") for name in "ABC"] == [None, None, "3"]
    assert (other.trust_env, other.max_redirects, other.gate) == (False, 3, session.gate)


# ------------------------------------------------------------------------------------------------ kept and brought back


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_session_comes_back_from_a_pickle(secure: Mirror, ca: Authority, again: Callable[[Any], Any]) -> None:
    file = secure.serves(b"x", headers={"Set-Cookie": "a=1"})
    session = Session(Profile(ca=ca.pem, headers={"X-A": "1"}, auth=Signed()), per_host=2)
    session.get(file.url)
    found = again(session)
    assert type(found) is Session
    assert (type(found.profile), found.caps, found.headers) == (Profile, (None, 2), session.headers)
    found.get(file.url)
    assert [request.header("Cookie") for request in file.requests] == [None, "a=1"]
    for name in ("X-A", "X-Signed"):
        assert [request.header(name) for request in file.requests] == ["1", "1"]
    assert secure.accepted == 1


def test_a_session_from_a_pickle_keeps_to_its_caps(mirror: Mirror) -> None:
    session = pickle.loads(pickle.dumps(Session(per_host=2)))
    file = mirror.serves(b"x", stall="head")
    jobs = [gevent.spawn(session.get, file.url) for _ in range(5)]
    file.arrived(times=2)
    for _ in range(50):
        gevent.idle()
    assert (file.hits, limits.process.used) == (2, 2)
    file.release()
    gevent.joinall(jobs, timeout=10, raise_error=True)


def test_an_answer_comes_back_from_a_pickle(mirror: Mirror) -> None:
    there = mirror.serves(b"x" * 100)
    for session in (Session(), session_of(headers={"X-A": "1"}), session_of(auth=Signed())):
        response = session.get(mirror.redirects(there).url)
        found = pickle.loads(pickle.dumps(response))
        assert (found.content, found.status_code, found.url) == (b"x" * 100, 200, there.url)
        assert [one.status_code for one in found.history] == [302]
        assert found.request.headers == response.request.headers


# ------------------------------------------------------------------------------------------------ adapters of one's own


def test_an_adapter_of_requests_own_kind_may_be_mounted(mirror: Mirror) -> None:
    class Marked(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            request.headers["X-Marked"] = "yes"
            return super().send(request, *args, **kwargs)

    file = mirror.serves(b"x")
    there = mirror.redirects(file)
    with Session(Profile(headers={"X-A": "1"})) as session:
        session.mount(f"http://127.0.0.1:{mirror.port}/", Marked())
        assert session.get(there.url).content == b"x"
        assert downloaded(there.url, session)[1] == b"x"
    assert [request.header("X-Marked") for request in file.requests] == ["yes", "yes"]
    assert [request.header("X-A") for request in file.requests] == ["1", "1"]


class Fake(BaseAdapter):
    """An adapter without a network."""

    closed = False

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response._content = (request.url or "").encode()
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        self.closed = True


def test_an_adapter_without_a_network_may_be_mounted() -> None:
    fake = Fake()
    with Session() as session:
        session.mount("fake://", fake)
        session.mount("http://only.test/", fake)
        assert session.get("fake://anything").content == b"fake://anything"
        assert session.get("http://only.test/x").content == b"http://only.test/x"
        assert isinstance(session.get_adapter("http://else.test/"), Adapter)
    assert fake.closed


def test_the_adapter_alone_may_be_mounted_on_requests_own_session(secure: Mirror, ca: Authority) -> None:
    file = secure.serves(b"x")
    session = requests.Session()
    session.mount("https://", Adapter(Profile(ca=ca.pem)))
    assert session.get(file.url).content == b"x"
    Session(Profile(ca=ca.pem)).get(file.url)
    assert secure.accepted == 1


# ------------------------------------------------------------------------------------------------ greenlets and threads


def test_twenty_greenlets_share_one_session(mirror: Mirror) -> None:
    """All twenty wait at the server at the same time; one after the other, the first would never be answered."""
    file = mirror.serves(b"x", stall="head")
    session = Session()
    jobs = [gevent.spawn(session.get, file.url) for _ in range(20)]
    file.arrived(times=20)
    file.release()
    gevent.joinall(jobs, timeout=20, raise_error=True)
    assert mirror.accepted == 20


def test_three_native_threads_share_one_session(mirror: Mirror, secure: Mirror, ca: Authority) -> None:
    """Each has connections of its own: a socket serves the hub that made it and no other."""
    files = [mirror.serves(b"x"), secure.serves(b"x")]
    session = session_of(ca=ca.pem, headers={"X-A": "1"})

    def calls(number: int) -> list[bytes]:
        who = {"X-Who": str(number)}
        return [session.get(files[turn % 2].url, headers=who).content for turn in range(20)]

    threads = ThreadPool(3)
    try:
        assert [job.get(timeout=30) for job in [threads.spawn(calls, one) for one in range(3)]] == [[b"x"] * 20] * 3
    finally:
        threads.kill()
    for server in (mirror, secure):
        seen: dict[int, set[str | None]] = {}
        for request in server.requests:
            seen.setdefault(request.connection, set()).add(request.header("X-Who"))
        assert all(len(who) == 1 for who in seen.values())
        assert server.accepted <= 3


def test_the_hub_goes_on_while_a_session_waits(mirror: Mirror, secure: Mirror, ca: Authority) -> None:
    """At every place where a call can wait; who blocked the hub would never let the gate open."""
    session = session_of(ca=ca.pem)
    for server in (mirror, secure):
        for stall in ("head", 50):
            file = server.serves(b"x" * 100, stall=stall)
            job = gevent.spawn(session.get, file.url)
            file.arrived()
            file.release()
            assert job.get(timeout=10).content == b"x" * 100


def test_a_handshake_that_never_ends_holds_up_nobody(origins: Origins) -> None:
    silent = origins.silent("https")
    file = origins.http().serves(b"x")
    waiting = [gevent.spawn(geofetch.get, silent.url) for _ in range(5)]
    while silent.accepted < 5:
        gevent.sleep(0.005)
    assert side_by_side([lambda: geofetch.get(file.url).content] * 5) == [b"x"] * 5
    gevent.killall(waiting)
    silent.left()
