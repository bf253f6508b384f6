"""The origin as the bench sees it: a process of its own that serves one folder over loopback.

In: a folder, what the case needs of it.  Out: base URLs, and how many connections were opened.
Never: a port that others can reach, a file outside its temporary folder, a process left behind.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Authority", "Origin", "Wanted", "started"]

ROOT = Path(__file__).resolve().parents[1]
#: Seconds within which an origin must be up, or down.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a case needs: which door (``http``, ``https``, ``https_new``), how long answers wait, whether some are
    faults."""

    door: str = "http"
    delay_s: float = 0.0
    faults: bool = False

    @property
    def plain(self) -> bool:
        """Whether any web server can do it."""
        return not self.delay_s and not self.faults


class Origin(Protocol):
    """A running origin."""

    kind: str

    def base(self, door: str) -> str:
        """What a path is appended to."""

    def connections(self) -> int | None:
        """How many connections clients have opened so far; None if it cannot count them."""

    def end(self) -> None:
        """Stop it, and wait for it."""


class Authority:
    """A CA made for this run: the certificate of 127.0.0.1 and localhost, and the bundle that clients are given.

    The bundle holds certifi's CAs beside ours, as a user's with a private CA does: what a client pays for reading it
    is what it pays in earnest.  ``alone`` leaves certifi's out.
    """

    def __init__(self, folder: Path, alone: bool = False) -> None:
        import certifi
        import trustme

        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.certificate = folder / "server.pem"
        self.certificate.write_bytes(
            b"".join(part.bytes() for part in (issued.private_key_pem, *issued.cert_chain_pems))
        )
        self.certificate.chmod(0o600)
        self.bundle = folder / "bundle.pem"
        public = b"" if alone else Path(certifi.where()).read_bytes() + b"\n"
        self.bundle.write_bytes(public + authority.cert_pem.bytes())


def started(folder: Path, home: Path, wanted: Wanted, authority: Authority | None, kind: str = "auto") -> Origin:
    """An origin for ``folder``, its own files in ``home``; nginx where it is installed and can do what is wanted."""
    if kind == "nginx" and not wanted.plain:
        kind = "own"
    if kind == "nginx" or (kind == "auto" and wanted.plain and shutil.which("nginx")):
        return Nginx(folder, home, authority)
    return Own(folder, wanted, authority)


class Own:
    """serving.py in a process of its own."""

    kind = "own (gevent, 2 processes)"

    def __init__(self, folder: Path, wanted: Wanted, authority: Authority | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.serving"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        told = {
            "folder": str(folder),
            "processes": 2,
            "delay_s": wanted.delay_s,
            "certificate": str(authority.certificate) if authority else "",
        }
        self._ports: dict[str, int] = self._ask(told)

    def _ask(self, told: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the origin ended with {self._process.wait()}")
        return json.loads(line)

    def base(self, door: str) -> str:
        return f"{door.partition('_')[0]}://127.0.0.1:{self._ports[door]}"

    def connections(self) -> int | None:
        count: int = self._ask("count")
        return count

    def end(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)


#: One worker: an origin that leaves the other core to the client. Nothing is logged, a connection is kept for long.
CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {home}/nginx.pid;
error_log {home}/nginx.log warn;
{user}
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; server_tokens off; types {{ }} default_type application/octet-stream;
  sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
  open_file_cache max=200000 inactive=600s; open_file_cache_valid 600s;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  ssl_session_cache shared:SSL:10m;
  {servers}
}}
"""
SERVER = "server {{ listen 127.0.0.1:{port}{ssl} backlog=4096; root {folder}; {more} }}"


class Nginx:
    """nginx with a configuration of its own, quiet, on free ports of loopback."""

    def __init__(self, folder: Path, home: Path, authority: Authority | None) -> None:
        doors = ("http", "https", "https_new") if authority else ("http",)
        *ports, self._status = _free_ports(len(doors) + 1)
        self._ports = dict(zip(doors, ports, strict=True))
        config = home / "nginx.conf"
        config.write_text(self._config(folder, home, authority), encoding="utf-8")
        self._process = subprocess.Popen(
            ["nginx", "-c", str(config), "-p", str(home), "-e", str(home / "nginx.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._asked = 0
        self._wait(home)
        self.kind = "nginx " + _version_of_nginx()

    def _config(self, folder: Path, home: Path, authority: Authority | None) -> str:
        servers = [SERVER.format(port=self._status, ssl="", folder=folder, more="location / { stub_status; }")]
        for door, port in self._ports.items():
            more = "keepalive_timeout 0;" if door == "https_new" else ""
            if door != "http":
                assert authority is not None
                more += f"ssl_certificate {authority.certificate}; ssl_certificate_key {authority.certificate};"
            secure = " ssl" if door != "http" else ""
            servers.append(SERVER.format(port=port, ssl=secure, folder=folder, more=more))
        # Root's workers would be nobody's, who may not read what root made.
        user = "user root;" if os.geteuid() == 0 else ""
        return CONFIG.format(home=home, user=user, servers="\n  ".join(servers))

    def _wait(self, home: Path) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.connections()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("nginx did not come up: " + (home / "nginx.log").read_text()[-500:]) from None
                time.sleep(0.02)

    def base(self, door: str) -> str:
        return f"{door.partition('_')[0]}://127.0.0.1:{self._ports[door]}"

    def connections(self) -> int | None:
        client = http.client.HTTPConnection("127.0.0.1", self._status, timeout=10)
        try:
            client.request("GET", "/", headers={"Connection": "close"})
            said = client.getresponse().read().decode()
        finally:
            client.close()
        self._asked += 1  # our own question is a connection too
        found = re.search(r"requests\s+(\d+) ", said)
        return int(found[1]) - self._asked if found else None

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; all are taken at once, so that no two are the same."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def _version_of_nginx() -> str:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return (said.stderr + said.stdout).strip().rpartition("/")[2].split(" ")[0]
