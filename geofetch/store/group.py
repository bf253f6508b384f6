"""Publishing for good, many files at a time: each synced, named, and its folder synced, before its publisher goes on.

In: parts that are whole.  Out: files that outlive a cut of power, under their names.  What is asked for while one group
is on its way to the disk forms the next: one sync of a folder serves all files of a group in it.
Where the file system allows it, one call syncs all files of a group (syncing.py); else each has its own.
The order is: write, sync the file, rename, sync the folder and each new one above it.  A rename whose file was not
synced first leaves an empty file under the final name after a cut (measured on ext4).
Never: a second sync of a file that failed to sync; on the hub nothing but waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import gevent
from gevent.event import Event

from ..errors import StoreError
from ..kills import hold
from . import native, syncing
from .filepart import FilePart
from .layouts import Placed
from .refusal import refused
from .tree import Tree

__all__ = ["Group"]

#: Files of one group at most: so that the first of them does not wait for a thousand others.
MOST = 128
#: Files from which one call for the whole file system takes less than one for each.
ENOUGH = 8
#: Seconds after which such a call has written much that was not ours, and for how many groups it is not tried again.
SLOW_S = 0.5
ONE_BY_ONE = 32

T = TypeVar("T")


class _Job:
    """One file on its way; exactly one of ``placed`` and ``error`` is set when ``over`` is."""

    __slots__ = ("error", "given_up", "over", "part", "place", "placed")

    def __init__(self, part: FilePart, place: Callable[[], Placed]) -> None:
        self.part = part
        self.place = place
        self.placed: Placed | None = None
        self.error: BaseException | None = None
        self.given_up = False
        self.over = Event()


class Group:
    """The files of one store that are on their way to the disk, for one hub."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._waiting: list[_Job] = []
        self._runner: gevent.Greenlet | None = None
        #: Groups whose files are synced each by itself before one call for all is tried again.
        self._one_by_one = 0

    def publish(self, part: FilePart, place: Callable[[], Placed]) -> Placed:
        """What ``place`` gives, once it will outlive a cut of power.

        A kill while waiting strikes when the part is no longer worked on.  If it has its name by then, that is kept
        and the kill waits (kills.hold); else the part can be discarded.
        """
        job = _Job(part, place)
        self._waiting.append(job)
        if self._runner is None or self._runner.dead:
            self._runner = gevent.spawn(self._run)
            self._runner.name = "geofetch-store-group"
            self._runner.rawlink(self._ended)
        killed: BaseException | None = None
        while not job.over.is_set():
            try:
                job.over.wait()
            except BaseException as exc:
                killed = killed or exc
                job.given_up = True
                if job in self._waiting:
                    self._waiting.remove(job)
                    break
        if killed is not None and (job.placed is None or not hold(killed)):
            raise killed
        if job.error is not None:
            raise job.error
        assert job.placed is not None
        return job.placed

    def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._bring(group)

    def _ended(self, runner: gevent.Greenlet) -> None:
        if runner is self._runner:  # else the next one has taken over what waits
            self._runner = None
            left, self._waiting = self._waiting, []  # only if that greenlet was killed, perhaps before it began
            _end(left)

    def _sync_parts(self, group: list[_Job]) -> None:
        left = group
        if self._one_by_one:
            self._one_by_one -= 1
        elif len(group) >= ENOUGH:
            began = monotonic()
            left = native.settle(_synced_together, group)
            if monotonic() - began > SLOW_S:
                self._one_by_one = ONE_BY_ONE
        native.settle_all(_sync_files, _shares(left))

    def _bring(self, group: list[_Job]) -> None:
        try:
            self._sync_parts(group)
            native.settle(_place_files, group)
            chains = {path: self._tree.unsynced(path) for job in group if job.placed for path in job.placed.touched}
            failed = self._sync_paths(sorted({path for chain in chains.values() for path in chain}))
            for job in group:
                if job.placed is not None:
                    hurt = [path for touched in job.placed.touched for path in chains[touched] if path in failed]
                    job.error = job.error or (failed[hurt[0]] if hurt else None)
            for chain in chains.values():
                if not failed:
                    self._tree.synced(chain)
        except BaseException:  # this greenlet was killed: whatever has its name has it without a promise
            for job in group:
                job.placed = None
            raise
        finally:
            _end(group)

    def _sync_paths(self, paths: list[str]) -> dict[str, StoreError]:
        failed: dict[str, StoreError] = {}
        for share in native.settle_all(_sync_each, _shares(paths)):
            failed.update(share)
        return failed


def _shares(what: list[T]) -> list[tuple[list[T]]]:
    return [(what[start :: native.THREADS],) for start in range(min(native.THREADS, len(what)))]


def _synced_together(jobs: list[_Job]) -> list[_Job]:
    """Sync as many of them as one call can; those that are left, or all where it says that something failed."""
    live = [job for job in jobs if not job.given_up]
    devices = {job.part.device for job in live}
    for device in devices:
        there = [job for job in live if job.part.device == device]
        if len(there) < ENOUGH or not syncing.together(device):
            continue
        try:
            # A descriptor hears of what failed since it was opened: the oldest one's time covers all of them.
            min(there, key=lambda job: job.part.number).part.sync_all()
        except OSError:
            continue  # whose bytes it were, or whether it were ours at all, each file's own sync tells
        live = [job for job in live if job.part.device != device]
    return live


def _sync_files(jobs: list[_Job]) -> None:
    for job in jobs:
        try:
            if not job.given_up:
                job.part.sync()
        except BaseException as exc:
            job.error = exc


def _place_files(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.given_up or job.error is not None:
            continue
        try:
            job.placed = job.place()
        except BaseException as exc:
            job.error = exc


def _sync_each(paths: list[str]) -> dict[str, StoreError]:
    failed: dict[str, StoreError] = {}
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            failed[path] = refused(exc, f"syncing {path}")
            failed[path].__cause__ = exc
    return failed


def _end(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.placed is None and job.error is None:
            job.error = StoreError(f"publishing {job.part.path} was interrupted: it is not certain to last")
        job.over.set()
