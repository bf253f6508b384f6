"""A real S3 server, SeaweedFS, in a folder of its own.  In: a folder.  Out: its endpoint, its keys, a client.

It is started by whoever makes it, on free ports of loopback, and ended by its pid; ``stop`` and ``start`` in between
keep what it stores.  Never: a process that outlives the one that made it, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY = "AKIAGEOFETCHTESTS000"
SECRET = "a-secret-key-that-nobody-may-see"
BUCKET = "geofetch-tests"

#: A shell that waits for the end of a pipe whose other end we hold, and takes the server with it.
_GUARD = '"$@" >&2 & echo $!; read -r never; kill -9 $! 2>/dev/null'
#: Services, each with a port for HTTP and one for gRPC.
_SERVICES = ("master", "volume", "filer", "s3")


class ObjectServer:
    """A server with one bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "data").mkdir(parents=True)
        actions = ["Admin", "Read", "Write", "List"]
        identity = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._ports = _free_ports(2 * len(_SERVICES))
        self.endpoint = f"http://127.0.0.1:{self._ports[-2]}"
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.start()
        self.boto().create_bucket(Bucket=BUCKET)

    def start(self) -> None:
        """Start it, and wait until it takes requests for objects."""
        program = Path(sys.executable).with_name("weed")
        ports = [
            f"-{name}.{kind}={self._ports[2 * at + more]}"
            for at, name in enumerate(_SERVICES)
            for more, kind in enumerate(("port", "port.grpc"))
        ]
        told = [
            *("server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._folder}/data", *ports),
            *("-master.telemetry=false", "-master.electionTimeout=200ms", "-master.heartbeatInterval=50ms"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=40", "-volume.preStopSeconds=0"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false"),
            *(f"-s3.config={self._folder}/s3.json", f"-s3.localSocket={self._folder}/s3.sock"),
            f"-filer.localSocket={self._folder}/filer.sock",
        ]
        with (self._folder / "weed.log").open("ab") as log:
            # A session of its own: Ctrl-C goes to the test run, which ends the server when it is ready to.
            guard = self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", program, *told],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert guard.stdout is not None
        self._pid = int(guard.stdout.readline())
        self._wait()

    def stop(self) -> None:
        """End it at once; what it has said is stored, is stored."""
        guard, self._guard = self._guard, None
        if guard is not None:
            os.kill(self._pid, signal.SIGKILL)
            guard.communicate(timeout=20)

    def freeze(self) -> None:
        """It listens, and does not answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Stop it, and remove its folder and the sockets that it makes elsewhere."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        for at, name in enumerate(_SERVICES):
            with contextlib.suppress(OSError):
                os.unlink(f"/tmp/seaweedfs-{name}-grpc-{self._ports[2 * at + 1]}.sock")

    def boto(self, secret: str = SECRET) -> Any:
        """A client that looks at the server without geofetch."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def _signal(self, number: int) -> None:
        assert self._guard is not None
        os.kill(self._pid, number)

    def _wait(self) -> None:
        client, until = self.boto(), time.monotonic() + 60
        # The gateway listens before its filer and a volume are ready: it is ready when an object can be stored.
        while True:
            try:
                client.list_buckets()
                if any(one["Name"] == BUCKET for one in client.list_buckets()["Buckets"]):
                    client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
                    client.delete_object(Bucket=BUCKET, Key="ready")
                break
            except Exception:
                if time.monotonic() > until:
                    raise AssertionError((self._folder / "weed.log").read_text()[-3000:]) from None
                time.sleep(0.05)
        client.close()


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def s3_store(server: ObjectServer, prefix: str, **how: Any) -> Any:
    """An S3Store at a prefix of this server's bucket."""
    from geofetch import S3Store

    told = {"endpoint": server.endpoint, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET, **how}
    return S3Store(f"s3://{BUCKET}/{prefix}", **told)
