"""What a hostile server or a careless hook must not be able to do: a small test for each attack that once worked."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

import geofetch
from geofetch.errors import BadResponse, RedirectRefused, SpecError, Stalled, Unreachable
from tests.origin.scenes import GATE, Drip, Endless
from tests.support.mirrors import Mirror, Origins

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def failed(url: str, **settings: object) -> geofetch.FetchError:
    with pytest.raises(geofetch.FetchError) as caught:
        geofetch.fetch(url, to=geofetch.MemoryStore(), retries=0, **settings)  # type: ignore[arg-type]
    return caught.value


def test_a_flood_of_tiny_chunks_starves_nobody(mirror: Mirror) -> None:
    flood = mirror.raw(CHUNKED, Endless(b"1\r\na\r\n" * 1000, 0))
    with geofetch.Pool(2, store=geofetch.MemoryStore(), progress=False, deadline=2) as pool:
        bad = pool.spawn(flood.url)
        good = pool.spawn(mirror.serves(b"x").url)
        assert good.get(timeout=30).ok
        assert isinstance(bad.get(timeout=30).error, geofetch.DeadlineExceeded)


def test_trailers_without_end_are_refused(mirror: Mirror) -> None:
    handle = mirror.raw(CHUNKED, b"1\r\na\r\n0\r\n", Endless(b"X: y\r\n", 0))
    assert isinstance(failed(handle.url), geofetch.SourceError)


def test_dripped_trailers_are_a_stall(mirror: Mirror) -> None:
    handle = mirror.raw(CHUNKED, b"1\r\na\r\n0\r\n", Drip(b"X" * 1000, 1, 0.05), GATE)
    assert isinstance(failed(handle.url, timeout=0.5), Stalled)


def test_a_handshake_that_stalls_tells_no_query(origins: Origins) -> None:
    silent = origins.silent("https")
    error = failed(f"{silent.base}/x?canary", timeout=0.3)
    assert isinstance(error, Stalled)
    chain: BaseException | None = error
    while chain is not None:
        assert "canary" not in f"{chain} {chain!r}"
        chain = chain.__cause__ or chain.__context__


def test_a_length_of_five_thousand_digits_is_no_answer(mirror: Mirror) -> None:
    handle = mirror.raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", then="close")
    assert isinstance(failed(handle.url), BadResponse | Unreachable)


def test_a_redirect_to_no_host_is_the_servers_fault(mirror: Mirror) -> None:
    assert isinstance(failed(mirror.redirects("http://a..b/").url), RedirectRefused)


def test_a_hook_that_waits_for_its_own_pool_is_told_so(mirror: Mirror) -> None:
    said: list[BaseException] = []

    def waits(*_: object) -> None:
        try:
            pool.join()
        except SpecError as exc:
            said.append(exc)

    hooks = {"finished": waits, "stored": waits}
    with (
        gevent.Timeout(20),
        geofetch.Pool(1, store=geofetch.MemoryStore(), progress=False, hooks=hooks) as pool,
    ):
        assert pool.map([mirror.serves(b"x").url])[0].ok
    assert len(said) == 2


def test_an_input_that_says_it_was_killed_is_heard(mirror: Mirror) -> None:
    handle, asked = mirror.serves(b"x"), Event()

    def specs() -> object:
        yield handle.url
        asked.set()
        raise gevent.GreenletExit("mine")

    with geofetch.Pool(1, store=geofetch.MemoryStore(), progress=False) as pool, pytest.raises(gevent.GreenletExit):
        pool.map(specs())  # type: ignore[arg-type]
    assert asked.is_set()


def test_a_pool_of_a_billion_is_refused() -> None:
    with pytest.raises(SpecError, match="size is a whole number from 1 to"):
        geofetch.Pool(10**9)
