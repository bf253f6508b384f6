"""Commands that others wrote for many files: wget2 and aria2c.  Each call is timed whole, its start included.

In: jobs.  Out: files, errors by name.  Never: settings of the user's own, another try after a failure.
"""

from __future__ import annotations

import os
import re
import subprocess

from .base import Batch, Keeper, Rival


class Wget2(Rival):
    """wget2 with a list of URLs; a file of them, since one on stdin makes version 1.99 wait for ever."""

    name = "wget2"
    commands = ("wget2",)
    note = "checks no digest, writes under the final name, does not tell which file was cut short; its start is timed"

    def open(self) -> None:
        self._call = ["wget2", "--no-config", "--no-verbose", "--tries=1", "--no-hsts", "--no-ocsp"]
        self._call += [f"--max-threads={self.settings.connections}", "--no-robots"]
        if self.settings.ca:
            self._call += [f"--ca-certificate={self.settings.ca}"]

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        wanted = f"{batch.folder}.urls"
        with open(wanted, "w", encoding="utf-8") as urls:
            urls.writelines(job.url + "\n" for job in batch.jobs)
        call = [*self._call, f"--directory-prefix={batch.folder}", f"--input-file={wanted}"]
        ended = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = ended.stdout + ended.stderr
        errors = {}
        if ended.returncode:
            # It names what a server refused; of a transfer that broke, its exit status alone tells.
            lines = {name: line for line in said.splitlines() for name in re.findall(r"/([^/\s\]\"]+\.bin)", line)}
            there = set(os.listdir(batch.folder))
            for job in batch.jobs:
                if job.name not in there:
                    errors[job.name] = f"wget2 {ended.returncode}: {lines.get(job.name, 'not named')}"
        return errors


class Aria2(Rival):
    """aria2c with an input file on stdin; it is the one command that checks digests."""

    name = "aria2c"
    commands = ("aria2c",)
    note = "checks digests, after the file is complete; its start is timed"

    def open(self) -> None:
        self._call = ["aria2c", "--no-conf", "--quiet", "--no-netrc", "--input-file=-", "--max-tries=1", "--split=1"]
        self._call += ["--file-allocation=none", "--auto-file-renaming=false", "--allow-overwrite=true"]
        self._call += ["--max-connection-per-server=1", f"--max-concurrent-downloads={self.settings.connections}"]
        if self.settings.ca:
            self._call += [f"--ca-certificate={self.settings.ca}"]

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        failed = f"{batch.folder}.failed"
        wanted = "".join(
            f"{job.url}\n out={job.name}\n dir={batch.folder}\n checksum=sha-256={job.sha256}\n" for job in batch.jobs
        )
        call = [*self._call, f"--save-session={failed}"]
        ended = subprocess.run(call, input=wanted, capture_output=True, text=True, check=False)
        with open(failed, encoding="utf-8") as told:
            left = {line.strip() for line in told}
        os.unlink(failed)
        why = ended.stderr.strip().rpartition("\n")[2] or "in its list of what is left"
        return {job.name: f"aria2c {ended.returncode}: {why}" for job in batch.jobs if job.url in left}
