"""What is done with an object store in a world; as calls.py, but on the server of tests/support/objects.py.

In     ENDPOINT, PREFIX and the keys of AWS in the environment
Out    as calls.py
Never  imported by the test process: these calls need a server, and tests/test_s3_worlds.py alone has it
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from calls import EVERY, Call, Origin, Ticker, together

MIB = 1 << 20
SUITE = """
import os
import pytest
from geofetch import S3Store
from geofetch.testing.store import HandsOver, Keeps, StoreKind

class TestS3(HandsOver, Keeps):
    @pytest.fixture
    def kind(self):
        def make(folder):
            place = f"s3://geofetch-tests/{os.environ['PREFIX']}/{folder.parent.name}"
            return S3Store(place, endpoint=os.environ["ENDPOINT"])

        def read(store, location):
            with store.open(location.removeprefix(store.name + "/")) as file:
                return file.read()

        return StoreKind(make, read)
"""


class ObjectSuite(Call):
    """The suite of every store; what lists hundreds of keys is left to the test process."""

    worlds = EVERY
    under_s = 60.0
    suite = SUITE

    def prepare(self, origin: Origin) -> Any:
        import pytest

        return pytest

    def work(self, origin: Origin, prepared: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "test_suite.py"
            path.write_text(self.suite)
            told = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "not every_key", "--rootdir", folder]
            stdout = os.dup(1)
            os.dup2(2, 1)  # stdout is for the one line of world.py
            try:
                assert prepared.main(["--basetemp", f"{folder}/tmp", "-o", "addopts=", *told, str(path)]) == 0
            finally:
                sys.stdout.flush()
                os.dup2(stdout, 1)
                os.close(stdout)


FSSPEC_SUITE = """
import os
import pytest
from urllib.parse import unquote
from geofetch import FsspecStore
from geofetch.testing.store import HandsOver, Keeps, StoreKind

class TestFsspec(HandsOver, Keeps):
    @pytest.fixture
    def kind(self):
        def make(folder):
            return FsspecStore(f"{os.environ['FTP']}/{folder.parent.name}")

        def read(store, location):
            with store.open(unquote(location.removeprefix(store.name + "/"))) as file:
                return file.read()

        return StoreKind(make, read)
"""


class FsspecSuite(ObjectSuite):
    """The same of an FTP server, through fsspec."""

    suite = FSSPEC_SUITE


class ObjectPool(Call):
    """Many small files and two large ones at once; then all of them found, read, put aside."""

    worlds = EVERY
    under_s = 30.0

    def prepare(self, origin: Origin) -> Any:
        import geofetch

        assert geofetch.Pool is not None, "imported by now"
        assert geofetch.S3Store is not None
        return geofetch

    def work(self, origin: Origin, prepared: Any) -> None:
        geofetch = prepared
        store = geofetch.S3Store(
            f"s3://geofetch-tests/{os.environ['PREFIX']}", endpoint=os.environ["ENDPOINT"], patience_s=10
        )
        with tempfile.TemporaryDirectory() as folder, Ticker() as ticker:
            contents = {f"{number}.bin": os.urandom(100 + number) for number in range(60)}
            contents |= {f"large{number}.bin": os.urandom(12 * MIB) for number in range(2)}
            specs = []
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
                digest = "sha256:" + hashlib.sha256(content).hexdigest()
                specs.append(geofetch.Spec(f"file://{folder}/{name}", digests=digest, path=f"all/{name}"))
            for state in ("stored", "adopted"):
                with geofetch.Pool(20, store=store, progress=False) as pool:
                    outcomes = pool.map(specs)
                assert [outcome.state for outcome in outcomes] == [state] * len(specs), outcomes

        def read(key: str) -> bytes:
            with store.open(key) as file:
                content: bytes = file.read()
            return content

        keys = sorted(store.keys())
        found = together(len(keys), lambda: read(keys.pop()))
        assert sorted(map(len, found)) == sorted(map(len, contents.values()))
        assert set(found) == set(contents.values())
        store.quarantine("all/0.bin")
        assert store.stat("all/0.bin") is None
        assert "X-Amz-Signature" in store.url_for("all/1.bin")
        store.close()
        assert ticker.worst_s < 1.0, ticker.worst_s
