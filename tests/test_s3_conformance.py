"""S3Store, held against the suite that every store passes, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from geofetch import S3Store
from geofetch.testing.store import HandsOver, Keeps, Quarantines, Removes, StoreKind

from .support.objects import BUCKET, ObjectServer, s3_store

LAYOUTS = [pytest.param("path", id="s3-by-path"), pytest.param("digest", id="s3-by-digest")]


def kind_of(server: ObjectServer, layout: str) -> StoreKind:
    def read(store: S3Store, location: str) -> bytes:
        assert location.startswith(store.name + "/")
        key = unquote(location.partition(BUCKET + "/")[2])
        content: bytes = server.boto().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def make(folder: Path) -> S3Store:
        # A test's folder is its own: so is a prefix of its name.
        return s3_store(server, f"{folder.parent.name}/{layout}", layout=layout)

    return StoreKind(make, read, by_path=layout == "path")


class TestS3(HandsOver, Keeps, Removes, Quarantines):
    @pytest.fixture(params=LAYOUTS)
    def kind(self, request: pytest.FixtureRequest, object_server: ObjectServer) -> Any:
        return kind_of(object_server, request.param)
