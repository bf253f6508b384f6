"""libcurl: pycurl with its multi interface, and the command with --parallel.

In: jobs.  Out: files, errors by name.  Never: a digest from the command; it can check none.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

from ..content import Job
from .base import Batch, Keeper, Rival, library


class Pycurl(Rival):
    """pycurl: one CurlMulti, as many easy handles as connections, each used again and again."""

    name = "pycurl"
    modules = ("pycurl",)

    def open(self) -> None:
        self._pycurl = library("pycurl")
        self._multi = self._pycurl.CurlMulti()
        self._multi.setopt(self._pycurl.M_MAXCONNECTS, self.settings.connections)
        self._free = [self._a_handle() for _ in range(self.settings.connections)]

    def _a_handle(self) -> Any:
        handle, names = self._pycurl.Curl(), self._pycurl
        handle.setopt(names.NOSIGNAL, 1)
        handle.setopt(names.FAILONERROR, True)
        if self.settings.ca:
            handle.setopt(names.CAINFO, self.settings.ca)
        return handle

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs, multi, under_way = iter(batch.jobs), self._multi, 0
        more = True
        while more or under_way:
            while more and self._free:
                job = next(jobs, None)
                more = job is not None
                if job is not None:
                    self._begin(self._free.pop(), job, keeper)
                    under_way += 1
            multi.perform()
            done = self._ended(keeper, errors)
            under_way -= done
            if under_way and not done:
                multi.select(1.0)
        return errors

    def _begin(self, handle: Any, job: Job, keeper: Keeper) -> None:
        handle.job, handle.part, handle.pieces = job, None, []
        write = handle.pieces.append
        if job.large:
            handle.part = keeper.part(job)
            write = handle.part.__enter__()
        handle.setopt(self._pycurl.URL, job.url)
        handle.setopt(self._pycurl.WRITEFUNCTION, write)
        self._multi.add_handle(handle)

    def _ended(self, keeper: Keeper, errors: dict[str, str]) -> int:
        """Take what has ended since; how many that was."""
        count = 0
        while True:
            left, good, bad = self._multi.info_read()
            for handle in good:
                self._end(handle, keeper, errors, None)
            for handle, number, said in bad:
                self._end(handle, keeper, errors, OSError(number, said))
            count += len(good) + len(bad)
            if not left:
                return count

    def _end(self, handle: Any, keeper: Keeper, errors: dict[str, str], failed: OSError | None) -> None:
        self._multi.remove_handle(handle)
        self._free.append(handle)
        job, part = handle.job, handle.part
        try:
            if part is not None:
                part.__exit__(failed and OSError, failed, None)
            elif failed is None:
                keeper.whole(job, b"".join(handle.pieces))
        except Exception as exc:
            errors[job.name] = repr(exc)
        if failed is not None:
            errors[job.name] = repr(failed)

    def close(self) -> None:
        for handle in self._free:
            handle.close()
        self._multi.close()


#: What curl tells at the end of each transfer: its exit code, where it wrote, why it failed.
TOLD = "%{exitcode} %{http_code} %{url} %{errormsg}\\n"


class Curl(Rival):
    """The command, all files in one call."""

    name = "curl"
    commands = ("curl",)
    note = "checks no digest, writes under the final name; at most 300 connections; its start is timed"
    most = 300

    def open(self) -> None:
        size = min(self.settings.connections, self.most or self.settings.connections)
        self._call = ["curl", "--disable", "--silent", "--fail", "--parallel", "--parallel-max", str(size)]
        self._call += ["--remove-on-error", "--write-out", TOLD, "--config", "-"]
        if self.settings.ca:
            self._call += ["--cacert", self.settings.ca]

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        wanted = "".join(f'url = "{job.url}"\noutput = "{batch.folder}/{job.name}"\n' for job in batch.jobs)
        ended = subprocess.run(self._call, input=wanted, capture_output=True, text=True, check=False)
        named = {job.url: job.name for job in batch.jobs}
        errors = {}
        for code, status, url, why in re.findall(r"^(\d+) (\d+) (\S+) ?(.*)$", ended.stdout, re.MULTILINE):
            if code != "0":
                errors[named[url]] = f"curl {code}, status {status}: {why}"
        return errors
