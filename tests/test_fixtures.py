"""The fixtures keep their word: what they say is wrong is wrong, and what is wrong they say."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

import gevent
import pytest
from gevent.lock import Semaphore

from tests.support.hub_errors import HubErrors
from tests.support.leftovers import Leftovers
from tests.support.ticking import Ticker


def test_nothing_of_the_machine_shows() -> None:
    assert not {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"} & set(os.environ)
    assert not [name for name in os.environ if name.lower().endswith("_proxy")]
    assert list(Path.home().iterdir()) == []


def test_an_error_in_a_greenlet_is_seen(green_errors_are_fatal: HubErrors) -> None:
    gevent.spawn(struct.unpack, "i", b"").join()
    assert len(green_errors_are_fatal.seen) == 1
    with pytest.raises(AssertionError, match="no greenlet failed"):
        green_errors_are_fatal.expected("something else")
    green_errors_are_fatal.expected("unpack requires a buffer of 4 bytes")
    assert green_errors_are_fatal.seen == []


def test_leftovers_are_found_by_name(tmp_path: Path) -> None:
    leftovers = Leftovers(tmp_path)
    leftovers.check()
    sock, greenlet = socket.socket(), gevent.spawn(Semaphore(0).acquire)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".part-1").touch()
    assert leftovers._more() == ["1 x socket", "1 x greenlet Semaphore.acquire", "1 x below/.part-1"]
    sock.close()
    greenlet.kill()
    (tmp_path / "below" / ".part-1").unlink()
    leftovers.check()


def test_the_ticker_sees_a_hub_that_was_away(ticker: Ticker) -> None:
    def seen() -> bool:
        with ticker:
            time.sleep(0.2)  # the fault itself: it stops the hub
        return ticker.worst_s >= 0.2

    def unseen() -> bool:
        with ticker:
            gevent.sleep(0.05)
        return ticker.worst_s < 0.1

    # Where the machine was late as well, a gap does not count, or one is there without fault: the next try shows it.
    assert any(seen() for _ in range(10))
    assert any(unseen() for _ in range(10))
