"""Many who can go on at once leave the hub its time: its timers and sockets get their turn in between."""

from __future__ import annotations

import time

import gevent
import gevent.event

from geofetch.spec import Spec
from geofetch.turns import turn
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

AT_ONCE = 40
#: What each of them does to the hub when it goes on: two are as much as one pass takes.
WORK_S = 0.01


def ticking(times: list[float]) -> None:
    while True:
        times.append(time.monotonic())
        gevent.sleep(0.001)


def test_those_who_are_woken_together_go_on_a_few_at_a_time_and_in_order() -> None:
    woken, order, ticks = gevent.event.Event(), [], []

    def work(number: int) -> None:
        woken.wait()
        turn()
        order.append(number)
        time.sleep(WORK_S)  # the fault itself: it stops the hub

    ticker = gevent.spawn(ticking, ticks)
    jobs = [gevent.spawn(work, number) for number in range(AT_ONCE)]
    gevent.sleep(0.01)
    before = len(ticks)
    woken.set()
    gevent.joinall(jobs, raise_error=True)
    ticker.kill()
    assert order == list(range(AT_ONCE))
    assert len(ticks) - before >= AT_ONCE // 5


def test_a_lone_one_waits_for_nobody() -> None:
    passes: list[int] = []
    gevent.sleep(0.001)
    gevent.spawn(passes.append, 1)
    turn()
    assert passes == []


def test_who_is_killed_while_waiting_for_its_turn_is_out_of_the_line() -> None:
    woken, gone_on = gevent.event.Event(), []

    def work(number: int) -> None:
        woken.wait()
        turn()
        gone_on.append(number)
        if number == 0:
            gevent.killall(jobs[10:20], block=False)
        time.sleep(WORK_S)

    jobs = [gevent.spawn(work, number) for number in range(AT_ONCE)]
    gevent.sleep(0.01)
    woken.set()
    gevent.joinall(jobs)
    assert gone_on == [*range(10), *range(20, AT_ONCE)]
    turn()  # and nobody stands in the way of those who come later


def test_downloads_take_turns(mirror: Mirror, spotless: Leftovers) -> None:
    """A hook that works on the hub slows its downloads down, not everybody's timers."""
    ticks: list[float] = []
    held = mirror.serves(b"x", stall="head")
    # The work is done where an answer has come, which for all of them is at once.
    with pooled(AT_ONCE, hooks={"headers": lambda *_: time.sleep(WORK_S)}) as pool:
        jobs = [pool.spawn(Spec(held.url, path=f"f{n}")) for n in range(AT_ONCE)]
        held.arrived(times=AT_ONCE, timeout_s=30)
        ticker = gevent.spawn(ticking, ticks)
        held.release()
        assert all(job.get(timeout=30).ok for job in jobs)
        ticker.kill()
    assert len(ticks) >= AT_ONCE // 5
