"""Who may go now: caps hold, nobody waits for a host that is full, a kill gives its place back."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextvars import copy_context

import gevent
import pytest
from gevent.event import Event

from geofetch import kills, limits
from geofetch.errors import DeadlineExceeded, SpecError
from geofetch.limits import Slots
from tests.support.mirrors import Mirror
from tests.support.walking import in_subprocess


def test_no_cap_is_passed_whatever_is_killed() -> None:
    root = Slots(4)
    narrow, wide = root.narrowed(3, 2), root.narrowed(9)
    most: Counter[str] = Counter()

    def work(slots: Slots, host: str) -> None:
        with slots.take(host):
            most["root"] = max(most["root"], root.used)
            most["narrow"] = max(most["narrow"], narrow.used)
            most["host"] = max(most["host"], *narrow.used_by.values(), 0)
            gevent.sleep(0.001)

    dice = random.Random(5)
    jobs = [
        gevent.spawn(work, dice.choice((narrow, narrow, narrow, wide)), f"h{dice.randint(0, 2)}") for _ in range(300)
    ]
    for job in dice.sample(jobs, 80):
        gevent.sleep(0)
        job.kill(block=False)
    gevent.joinall(jobs, raise_error=False)
    assert (most["root"], most["narrow"], most["host"]) == (4, 3, 2)
    assert (root.used, narrow.used, wide.used, root.used_by) == (0, 0, 0, {})


def test_a_full_host_holds_up_nobody_else() -> None:
    slots = Slots(3, per_host=1)
    held = slots.take("full")
    waiting = [gevent.spawn(slots.take, "full") for _ in range(5)]
    gevent.sleep(0)
    slots.take("other", timeout_s=5).leave()
    held.leave()
    for job in waiting:
        job.get(timeout=5).leave()
    assert slots.used == 0


def test_waiting_ends_in_time_and_takes_nothing() -> None:
    slots = Slots(1)
    held = slots.take("h")
    with pytest.raises(TimeoutError, match="no free connection to h"):
        slots.take("h", timeout_s=0.01)
    held.leave()
    held.leave()
    assert slots.used == 0
    slots.take("h", timeout_s=0.01).leave()


def test_a_hook_borrows_its_own_downloads_slot() -> None:
    slots = Slots(1)
    with gevent.Timeout(5), slots.take("a"):
        own = slots.enter("a")
        with slots.take("b"), slots.narrowed(5).take("c"):
            assert slots.used == 1
        own.leave()
    assert slots.used == 0


def test_a_loan_that_was_left_is_its_lenders_place_again() -> None:
    """A download that a hook began tells its own hooks when its bytes are through: they fetch, too."""
    slots = Slots(1)
    with gevent.Timeout(5), slots.take("a"):
        own = slots.enter("a")
        with slots.take("b") as loan:
            loan.leave()
            with slots.take("c"):
                assert slots.used == 1
        slots.take("d").leave()
        own.leave()
    assert slots.used == 0


def test_a_slot_lends_itself_to_one_hook_at_a_time() -> None:
    slots = Slots(1)
    running = most = 0

    def fetches() -> None:
        nonlocal running, most
        with slots.take("b"):
            running += 1
            most = max(most, running)
            gevent.sleep(0)
            running -= 1

    with gevent.Timeout(5), slots.take("a"):
        own = slots.enter("a")
        hooks = [gevent.Greenlet(fetches) for _ in range(5)]
        for hook in hooks:
            hook.gr_context = copy_context()
            hook.start()
        gevent.joinall(hooks, raise_error=True)
        own.leave()
    assert (most, slots.used) == (1, 0)


def test_a_redirect_moves_the_slot_without_holding_two_hosts() -> None:
    slots = Slots(2, per_host=1)
    one, two = slots.take("a"), slots.take("b")
    with gevent.Timeout(5):
        moving = gevent.spawn(one.move, "b")
        gevent.sleep(0)
        two.move("a")
        moving.get()
    assert (one.host, two.host, slots.used_by) == ("b", "a", {"a": 1, "b": 1})


def test_another_threads_hub_shares_the_caps() -> None:
    slots = Slots(1)
    held = slots.take("h")
    pool = gevent.get_hub().threadpool
    elsewhere = pool.spawn(lambda: slots.take("h", timeout_s=10).leave())
    gevent.sleep(0.01)
    assert not elsewhere.ready()
    held.leave()
    elsewhere.get(timeout=10)
    assert slots.used == 0


def test_an_answer_that_is_forgotten_gives_its_place_back_wherever_the_collector_finds_it(mirror: Mirror) -> None:
    """It may find it while this very thread has the lock."""
    answer = mirror.serves(b"x" * 100_000, stall=10).url
    said = in_subprocess(
        """
        import gc, warnings
        from geofetch import limits

        def forget():
            response = geofetch.get(url, stream=True, timeout=10)
            response.cycle = [response]

        gc.disable()
        free = limits._all_free

        def collecting(levels, host):
            gc.collect()
            return free(levels, host)

        warnings.simplefilter("ignore", ResourceWarning)  # that it was forgotten is told, too
        limits.configure(max_connections=1)
        forget()
        print(limits.process.used)
        limits._all_free = collecting
        limits.process.take("h", timeout_s=10).leave()
        print(limits.process.used)
        """,
        timeout_s=30,
        url=answer,
    )
    assert said.split() == ["1", "0"]


def test_a_child_forked_while_another_thread_is_counting_takes_its_places() -> None:
    said = in_subprocess(
        """
        import os, signal, threading, warnings
        from geofetch import limits

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: of threads and a fork
        counting, counted = threading.Event(), threading.Event()

        def count():
            with limits._lock:
                counting.set()
                counted.wait(0.2)

        threading.Thread(target=count).start()
        counting.wait()
        child = os.fork()
        if not child:
            signal.alarm(20)
            limits.process.take("h", timeout_s=10).leave()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        timeout_s=30,
    )
    assert said.split() == ["0"]


def test_configure_narrows_the_process_but_never_past_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "process", Slots(limits.descriptors_for_connections()))
    limits.configure(max_connections=10**9)
    assert limits.process.total == limits.descriptors_for_connections()
    limits.configure(max_connections=7, per_host=3)
    assert (limits.process.total, limits.process.per_host) == (7, 3)
    limits.configure()
    assert (limits.process.total, limits.process.per_host) == (7, 3)
    with pytest.raises(SpecError, match="max_connections is a whole number from 1, not 0"):
        limits.configure(max_connections=0)


def test_a_wider_cap_lets_those_who_wait_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "process", Slots(1))
    limits.process.take("h")
    waiting = gevent.spawn(limits.process.take, "h")
    gevent.sleep(0)
    limits.configure(max_connections=2)
    assert waiting.get(timeout=5).host == "h"


def test_a_cap_that_was_narrowed_holds_for_those_who_waited_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "process", Slots(2))
    held = [limits.process.take("h") for _ in range(2)]
    waiting = gevent.spawn(limits.process.take, "h")
    gevent.sleep(0)
    limits.configure(max_connections=1)
    held.pop().leave()
    gevent.sleep(0)
    assert (waiting.ready(), limits.process.used) == (False, 1)
    held.pop().leave()
    assert waiting.get(timeout=5).host == "h"
    assert (limits.process.used, limits.process.used_by) == (1, {"h": 1})


def test_hosts_that_wait_for_one_cap_take_turns() -> None:
    slots, served = Slots(1), []

    def download(host: str) -> None:
        with slots.take(host):
            served.append(host)
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(download, host) for host in "aaaabb"], raise_error=True)
    assert served == ["a", "a", "b", "a", "b", "a"]
    assert (slots.used, slots.used_by) == (0, {})


def test_a_deadline_is_no_exception_until_it_is_outside() -> None:
    swallowed = Event()
    with pytest.raises(DeadlineExceeded, match="over"), kills.deadline(0.01, DeadlineExceeded("over")):
        try:
            gevent.sleep(60)
        except Exception:
            swallowed.set()
    assert not swallowed.is_set()


def test_a_deadline_leaves_anothers_timeout_alone() -> None:
    theirs = gevent.Timeout.start_new(0.01)
    with pytest.raises(gevent.Timeout) as seen, kills.deadline(60, DeadlineExceeded("ours")):
        gevent.sleep(60)
    assert seen.value is theirs


@pytest.mark.parametrize("end", ["left", "destroyed"])
def test_who_waited_in_a_thread_that_is_over_is_passed_by(end: str) -> None:
    slots, waits = Slots(1), threading.Event()

    def dies() -> None:
        gevent.spawn(slots.take, "a")
        gevent.sleep(0.01)
        waits.set()
        if end == "destroyed":
            gevent.get_hub().destroy(destroy_loop=True)

    held = slots.take("a")
    thread = threading.Thread(target=dies)
    thread.start()
    assert waits.wait(10)
    thread.join(10)
    held.leave()
    with gevent.Timeout(10):
        slots.take("a").leave()
    assert slots.used == 0
