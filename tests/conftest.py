"""The fixtures that every test file shares; what they are made of lives in tests/support and tests/origin.

Every test gets ports of its own: what one leaves open in a pool, no other one finds.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from tests.support.certs import Authority
from tests.support.hub_errors import HubErrors
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror, Origins
from tests.support.objects import ObjectServer
from tests.support.process import OriginProcess
from tests.support.servers import MariaDB, Place, PostgreSQL, Server, needed
from tests.support.ticking import Control, Ticker

pytest.register_assert_rewrite("geofetch.testing.store", "tests.support.rows")

#: What a machine may set and a test must not see.
_FOREIGN = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC", "NO_COLOR", "FORCE_COLOR"}


#: What a shell ignores for a job in the background, nohup for whatever it starts; children inherit it.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def pytest_configure(config: pytest.Config) -> None:
    """The processes that tests start get signals as from a terminal; this one ignores what it was told to ignore.

    They also keep what they compiled, where a machine forbids that: a command would compile geofetch anew, for 0.2 s.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *struck: None)  # unlike SIG_IGN, a handler does not outlive an exec


_modules: set[Path] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is there when a file of tests begins (all collected tests, libraries' models) is not gone through by every
    garbage collection after it: tests do thousands of them, to see what is left over."""
    if item.path not in _modules:
        _modules.add(item.path)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def origin_process() -> Iterator[OriginProcess]:
    process = OriginProcess()
    yield process
    process.end()


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """A real S3 server for a whole test run; each test has a prefix of its own in its bucket."""
    server = ObjectServer(tmp_path_factory.mktemp("objects"))
    yield server
    server.end()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """PostgreSQL, one for all tests of this process."""
    server = needed(PostgreSQL)
    yield server
    server.end()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """MariaDB, where there is one."""
    server = needed(MariaDB)
    yield server
    server.end()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database, of each kind: ``database.url``, ``database.rows("SELECT …")``."""
    if request.param == "sqlite":
        yield Place("sqlite", f"sqlite:///{tmp_path}/units.db")
        return
    place = request.getfixturevalue(request.param).place()
    yield place
    place.drop()


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of every TLS port that has no other one: ``ca.path``, ``ca.pem``, ``ca.client(name)``."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another CA, as good as the first one."""
    return Authority(tmp_path_factory.mktemp("other-ca"))


@pytest.fixture
def origins(origin_process: OriginProcess, ca: Authority) -> Iterator[Origins]:
    """Opens ports: ``http()``, ``https()``, ``proxy()``, ``refusing()``, ``full()``, ``silent()`` …"""
    with Origins(origin_process, ca) as opened:
        yield opened


@pytest.fixture
def mirror(origins: Origins) -> Mirror:
    """An HTTP port that serves what it is told to."""
    return origins.http()


@pytest.fixture
def secure(origins: Origins) -> Mirror:
    """An HTTPS port; its certificate is ``ca``'s, for localhost and 127.0.0.1."""
    return origins.https()


@pytest.fixture
def mutual(origins: Origins, ca: Authority) -> Mirror:
    """An HTTPS port that wants a client certificate of ``ca``'s."""
    return origins.https(wants=ca)


@pytest.fixture(autouse=True)
def clean_env(monkeypatch: pytest.MonkeyPatch, homes: Path) -> None:
    """No CA bundle, no proxy, no netrc, no settings of the machine's; a home that is empty."""
    for name in [*os.environ]:
        if name in _FOREIGN or name.lower().endswith("_proxy") or name.startswith(("XDG_", "GEOFETCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", tempfile.mkdtemp(dir=homes))


@pytest.fixture(autouse=True)
def green_errors_are_fatal(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubErrors]:
    """An error that ends a greenlet, uncaught, fails the test; ``expected("part of it")`` says that it was meant."""
    errors = HubErrors()
    errors.listen(monkeypatch)
    yield errors
    gevent.sleep(0)  # what was spawned and has not run yet fails now, not in the next test
    assert not errors.seen, "a greenlet failed:\n" + "\n".join(errors.seen)


@pytest.fixture
def no_leftovers(origins: Origins, tmp_path: Path) -> Iterator[Leftovers]:
    """After the test: no more descriptors, living greenlets and ``.part-*`` files under tmp_path than before."""
    leftovers = Leftovers(tmp_path)
    yield leftovers
    leftovers.check()


@pytest.fixture(scope="session")
def control_ticker() -> Iterator[Control]:
    control = Control()
    yield control
    control.end()


@pytest.fixture
def ticker(control_ticker: Control) -> Ticker:
    """``with ticker: …`` and then ``ticker.worst_s``: how long the hub was away."""
    return Ticker(control_ticker)
