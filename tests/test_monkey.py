"""What patching changes, what it leaves alone, and what it says; each case in a process of its own.

What patched code then does, against a real server, stands in test_monkey_worlds.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Where each of these is found decides whether the process was left alone.
NAMES = """
import os, queue, select, signal, socket, ssl, subprocess, threading, time
def held():
    return [time.sleep, socket.socket, socket.create_connection, socket.getaddrinfo, ssl.SSLContext, ssl.SSLSocket,
            threading.Thread, threading.Lock, threading.local, select.select, select.poll, queue.LifoQueue, os.fork,
            subprocess.Popen, signal.signal]
"""


def run(script: str) -> str:
    """What a script printed in a new process; its traceback fails the test."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_importing_geofetch_patches_nothing() -> None:
    said = run(f"""{NAMES}
import requests, urllib3.util.connection, urllib3.util.ssl_
before = held() + [urllib3.util.connection.socket, urllib3.util.ssl_.SSLContext, urllib3.HTTPConnectionPool.QueueCls]
import geofetch, geofetch.monkey
after = held() + [urllib3.util.connection.socket, urllib3.util.ssl_.SSLContext, urllib3.HTTPConnectionPool.QueueCls]
assert all(a is b for a, b in zip(before, after, strict=True))
import gevent.monkey
assert not gevent.monkey.is_anything_patched()
print(geofetch.monkey.state().world)
""")
    assert said == "nothing patched\n"


def test_patch_requests_leaves_the_process_alone() -> None:
    run(f"""{NAMES}
before = held()
from geofetch import monkey
monkey.patch_requests()
assert all(a is b for a, b in zip(before, held(), strict=True))
import gevent.monkey
assert not gevent.monkey.is_anything_patched()
assert monkey.state().world is monkey.World.REQUESTS
""")


def test_patch_requests_twice_rebinds_nothing_the_second_time() -> None:
    run("""
from geofetch import monkey
first = monkey.patch_requests()
assert first.rebound and not first.already, first
import urllib3
held = urllib3.HTTPConnectionPool._get_conn, urllib3.util.connection.socket
second = monkey.patch_requests()
assert not second.rebound and second.already == first.rebound, second
assert held == (urllib3.HTTPConnectionPool._get_conn, urllib3.util.connection.socket)
""")


def test_what_others_wrapped_around_the_patch_is_not_wrapped_again() -> None:
    run("""
import functools, urllib3
from geofetch import monkey
monkey.patch_requests()
ours = urllib3.HTTPConnectionPool._get_conn
@functools.wraps(ours)
def traced(self, timeout=None):
    return ours(self, timeout)
urllib3.HTTPConnectionPool._get_conn = traced
assert not monkey.patch_requests().rebound
assert urllib3.HTTPConnectionPool._get_conn is traced
""")


def test_the_report_says_what_was_rebound_and_with_which_versions() -> None:
    import urllib3

    said = run("from geofetch import monkey; print(monkey.patch_requests())")
    assert said.startswith("requests patched (gevent ")
    assert f"urllib3 {urllib3.__version__}" in said
    assert "rebound: urllib3.util.connection.socket, " in said


@pytest.mark.parametrize(
    "gone",
    [
        "urllib3.util.connection.socket",
        "urllib3.util.ssl_._ssl_wrap_socket_impl",
        "urllib3.connectionpool.HTTPConnectionPool._get_conn",
        "requests.auth.HTTPDigestAuth",
    ],
)
def test_a_missing_name_is_an_error_and_nothing_is_half_patched(gone: str) -> None:
    owner, _, name = gone.rpartition(".")
    said = run(f"""
import requests.auth, urllib3.util.connection, urllib3.util.wait, urllib3.util.retry, urllib3.util.ssl_
del {owner}.{name}
from geofetch import monkey
def held():
    return [vars(monkey.importlib.import_module(mend.where.partition(":")[0])).copy() for mend in monkey.MENDS]
before, pool = held(), dict(vars(urllib3.HTTPConnectionPool))
try:
    monkey.patch_requests()
except monkey.PatchError as exc:
    print(exc)
assert before == held() and pool == dict(vars(urllib3.HTTPConnectionPool))
assert monkey.state().world is monkey.World.NOTHING
""")
    assert said.startswith("nothing was patched: ")
    assert gone in said
    assert "; urllib3 2." in said


def test_urllib3_future_in_place_of_urllib3_is_refused_and_told() -> None:
    said = run("""
import urllib3
urllib3.__version__ = "2.25.904"
from geofetch import monkey
try:
    monkey.patch_requests()
except monkey.PatchError as exc:
    print(exc)
print(*monkey.state().warnings)
assert monkey.state().world is monkey.World.NOTHING
done = monkey.patch_all()
assert done.state.world is monkey.World.PROCESS and any("2.25.904" in word for word in done.state.warnings), done
""")
    refused, told = said.splitlines()
    assert "urllib3-future" in refused
    assert "2.25.904" in refused
    assert "niquests" in told


def test_a_context_that_urllib3_makes_is_gevents() -> None:
    run("""
import gevent.ssl, urllib3.util, urllib3.util.ssl_
from geofetch import monkey
monkey.patch_requests()
assert isinstance(urllib3.util.ssl_.create_urllib3_context(), gevent.ssl.SSLContext)
assert urllib3.util.SSLContext is gevent.ssl.SSLContext
""")


def test_what_a_subclass_brings_of_its_own_stays() -> None:
    run("""
import queue, gevent.queue, gevent.ssl, urllib3
class Pool(urllib3.HTTPSConnectionPool):
    QueueCls = gevent.queue.LifoQueue
    def _get_conn(self, timeout=None):
        return "mine"
from geofetch import monkey
monkey.patch_requests()
pool = Pool("localhost", ssl_context=gevent.ssl.create_default_context())
assert type(pool.pool) is gevent.queue.LifoQueue
assert pool._get_conn() == "mine"
class Queue(queue.LifoQueue):
    pass
urllib3.HTTPConnectionPool.QueueCls = Queue
assert not monkey.patch_requests().rebound
assert type(urllib3.HTTPConnectionPool("localhost").pool) is Queue
""")


LATE = """
import ssl, requests, urllib3, boto3, botocore.httpsession, gevent.monkey, warnings
from urllib3.util.ssl_ import create_urllib3_context
own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
from geofetch import monkey
"""


def test_a_late_patch_by_others_is_told_and_healed() -> None:
    run(f"""{LATE}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    gevent.monkey.patch_all()
state = monkey.state()
assert state.world is monkey.World.UNHEALED, state
assert "botocore.httpsession" in str(state) and "urllib3.util.ssl_" in str(state), state
try:
    create_urllib3_context()
except RecursionError:
    pass
else:
    raise AssertionError("there is nothing to heal: has the trap gone?")
done = monkey.patch_all()
assert done.state == monkey.state() and done.state.world is monkey.World.PROCESS, done
assert not done.state.warnings, done
assert "botocore.httpsession.SSLContext" in done.healed, done
for context in (own, create_urllib3_context(), botocore.httpsession.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
assert botocore.httpsession.SSLContext is ssl.SSLContext
""")


def test_a_late_patch_of_ours_is_healed_and_warns_of_nothing() -> None:
    run(f"""{LATE}
done = monkey.patch_all()
assert done.state.world is monkey.World.PROCESS and not done.state.warnings, done
own.verify_mode = ssl.CERT_REQUIRED
assert not monkey.patch_all().healed
""")


def test_requests_patched_first_and_the_process_late_by_others() -> None:
    run("""
import requests
from geofetch import monkey
monkey.patch_requests()
import gevent.monkey, urllib3.util.ssl_
gevent.monkey.patch_all()
assert monkey.state().world is monkey.World.PROCESS, monkey.state()
urllib3.util.ssl_.create_urllib3_context()
""")


def test_a_process_patched_in_part_is_told_and_completed() -> None:
    run("""
import gevent.monkey
gevent.monkey.patch_all(thread=False, select=False)
from geofetch import monkey
state = monkey.state()
assert state.world is monkey.World.PROCESS
assert "without select, thread" in str(state), state
done = monkey.patch_all()
assert not done.state.warnings, done
assert gevent.monkey.is_module_patched("threading") and gevent.monkey.is_module_patched("select")
""")


def test_patch_all_takes_gevents_arguments() -> None:
    run("""
from geofetch import monkey
import gevent.monkey
state = monkey.patch_all(queue=False, subprocess=False).state
assert not gevent.monkey.is_module_patched("subprocess") and not gevent.monkey.is_module_patched("queue")
assert "without queue:" in str(state), state
""")


def test_state_changes_nothing() -> None:
    run(f"""{NAMES}
import urllib3.util.connection
before = held() + [urllib3.util.connection.socket]
from geofetch import monkey
monkey.state()
assert all(a is b for a, b in zip(before, held() + [urllib3.util.connection.socket], strict=True))
from gevent._hub_local import get_hub_if_exists
assert get_hub_if_exists() is None
""")
