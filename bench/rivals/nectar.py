"""Nectar, which geofetch replaces: the real one, where the user says where it is, and a stand-in of its scheme.

In: jobs.  Out: files, errors by name.  Never: a line of Nectar's own code; the stand-in was written from what Nectar
does, not from how: threads, a requests.Session for each file, small buffers, a look every second whether all is done.
"""

from __future__ import annotations

import sys
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ..content import Job
from .base import Batch, Keeper, Rival, Settings, library

#: Nectar's own.
BUFFER = 8192


class StandIn(Rival):
    """Nectar's scheme, for those who have no Nectar."""

    name = "nectar-stand-in"
    modules = ("requests",)
    note = "a Session, and so a connection, a file; looks once a second whether all is done; checks no digest"

    def open(self) -> None:
        self._requests = library("requests")

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs: SimpleQueue[Job] = SimpleQueue()
        for job in batch.jobs:
            jobs.put(job)
        threads = [Thread(target=self._work, args=(jobs, batch, errors)) for _ in range(self.settings.connections)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(self.settings.poll_s)
        return errors

    def _work(self, jobs: SimpleQueue[Job], batch: Batch, errors: dict[str, str]) -> None:
        while True:
            try:
                job = jobs.get_nowait()
            except Empty:
                return
            try:
                self._one(job, f"{batch.folder}/{job.name}")
            except Exception as exc:
                errors[job.name] = repr(exc)

    def _one(self, job: Job, target: str) -> None:
        with self._requests.Session() as session:
            response = session.get(job.url, stream=True, timeout=(6.05, 27), verify=self.settings.ca or True)
            response.raise_for_status()
            with open(target, "wb") as file:
                for piece in response.iter_content(BUFFER):
                    file.write(piece)


class Nectar(Rival):
    """Nectar's threaded downloader as it comes."""

    name = "nectar"
    note = "checks no digest, writes under the final name; looks once a second whether all is done"

    @classmethod
    def missing(cls, settings: Settings) -> str:
        return "" if settings.nectar else "Nectar (say where it is: --nectar PATH)"

    def open(self) -> None:
        sys.path.insert(0, self.settings.nectar)
        self._config = library("nectar.config").DownloaderConfig(
            max_concurrent=self.settings.connections, ssl_ca_cert_path=self.settings.ca or None
        )
        self._request = library("nectar.request").DownloadRequest
        self._listener = library("nectar.listener").AggregatingEventListener
        self._kind = library("nectar.downloaders.threaded").HTTPThreadedDownloader

    def _downloader(self, listener: Any) -> Any:
        return self._kind(self._config, listener)

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        listener = self._listener()
        wanted = [self._request(job.url, f"{batch.folder}/{job.name}", data=job.name) for job in batch.jobs]
        self._downloader(listener).download(iter(wanted))
        ends = [report.finish_time for report in listener.succeeded_reports if report.finish_time]
        starts = [report.start_time for report in listener.succeeded_reports if report.start_time]
        self._last_s = (max(ends) - min(starts)).total_seconds() if ends and starts else None
        return {report.data: f"{report.state}: {report.error_msg}" for report in listener.failed_reports}

    def told(self) -> dict[str, Any]:
        return {"last_file_s": self._last_s}


class NectarShared(Nectar):
    """Nectar with one downloader and one Session for all batches; its pool of ten connections is its own choice."""

    name = "nectar-shared"
    note = "with one downloader and Session for all batches; " + Nectar.note

    def open(self) -> None:
        super().open()
        self._shared = self._kind(self._config, session=library("requests").Session())

    def _downloader(self, listener: Any) -> Any:
        self._shared.event_listener = listener
        return self._shared
