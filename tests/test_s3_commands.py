"""The commands, where the place to store is the URL of a prefix in a bucket: real processes, a real server."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from geofetch import Recorder
from geofetch.cli.console import redacted

from .support.mirrors import Mirror
from .support.objects import BUCKET, KEY, SECRET, ObjectServer
from .test_cli import run


@pytest.fixture
def place(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return f"s3+{object_server.endpoint}/{BUCKET}/commands-{os.urandom(4).hex()}"


def test_sync_verify_and_repair_in_a_bucket(
    mirror: Mirror, place: str, object_server: ObjectServer, tmp_path: Path
) -> None:
    tree = mirror.tree(12)
    into = ("--into", place, "--db", "sqlite:///units.db")
    for state in ("stored", "adopted"):
        done = run("sync", tree.sums_url, *into, "--layout", "digest", "--json", cwd=tmp_path)
        assert done.code == 0, done.err
        assert done.objects[-1]["files"][state] == 12
    boto, prefix = object_server.boto(), place.rpartition("/")[2]
    keys = [one["Key"] for one in boto.list_objects_v2(Bucket=BUCKET, Prefix=prefix + "/")["Contents"]]
    assert len(keys) == 12
    boto.put_object(Bucket=BUCKET, Key=keys[0], Body=b"rotten")
    boto.delete_object(Bucket=BUCKET, Key=keys[1])
    found = run("verify", *into, "--json", cwd=tmp_path)
    assert found.code == 11, found.err
    assert (found.objects[-1]["corrupt"], found.objects[-1]["missing"]) == (1, 1)
    mended = run("verify", "--repair", *into, "--json", cwd=tmp_path)
    assert mended.code == 0, mended.err
    assert mended.objects[-1]["repair"] == {"repaired": 2}
    # Without --into the records alone say where it is.
    assert run("verify", "--db", "sqlite:///units.db", cwd=tmp_path).code == 0
    contents = {boto.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    assert contents == set(tree.contents.values())
    shown = "".join(text for one in (done, found, mended) for text in (one.out, one.err))
    assert SECRET not in shown + (tmp_path / "units.db").read_bytes().decode("latin-1")


def test_get_into_a_bucket(mirror: Mirror, place: str, object_server: ObjectServer, tmp_path: Path) -> None:
    done = run("get", mirror.serves(b"bytes", name="a.bin").url, "-o", f"{place}/", cwd=tmp_path)
    assert done.code == 0, done.err
    key = f"{place.rpartition('/')[2]}/a.bin"
    assert object_server.boto().get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"bytes"
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_holds_no_records(mirror: Mirror, place: str, tmp_path: Path) -> None:
    for words in (("sync", mirror.serves(b"").url), ("verify",)):
        done = run(*words, "--into", place, cwd=tmp_path)
        assert done.code == 2
        assert "say by --db URL where they are" in done.err


def test_a_bucket_that_is_gone_makes_no_file_a_missing_one(
    mirror: Mirror, place: str, object_server: ObjectServer, tmp_path: Path
) -> None:
    gone, tree = place.replace(BUCKET, "no-such-bucket"), mirror.tree(2)
    for more in ((), ("--policy", "immediate")):
        words = ("sync", tree.sums_url, "--into", gone, "--db", "sqlite:///units.db", "--json", *more)
        done = run(*words, cwd=tmp_path)
        assert done.code == 12
        (line,) = done.err.splitlines()
        assert "there is no such bucket" in line
        assert mirror.base not in line
        (summary,) = done.objects
        assert (summary["exit_code"], summary["error"]["type"]) == (12, "Refused")
    assert set(tree.hits) == {"SHA256SUMS"}
    assert run("units", "list", "--db", "sqlite:///units.db", cwd=tmp_path).out == ""


def test_another_servers_bucket_of_that_name_is_not_taken_for_the_one_that_the_records_mean(
    place: str, object_server: ObjectServer, tmp_path: Path, mirror: Mirror
) -> None:
    db = f"sqlite:///{tmp_path}/units.db"
    file = mirror.serves(b"x", name="a")
    assert run("get", file.url, "--into", place, "--db", db, "--size", "1", cwd=tmp_path).code == 0
    prefix = place.rpartition("/")[2]
    with Recorder(db) as recorder:
        (unit,) = recorder.units()
        name = f"s3://{BUCKET}/{prefix}-at-amazon"
        recorder.put_unit(replace(unit, store=name, key={"store": name, "path": "a"})).get()
    done = run("verify", "--db", db, cwd=tmp_path, env={"AWS_ENDPOINT_URL": object_server.endpoint})
    assert done.code == 12, done.err
    assert f"the records say {name}, and $AWS_ENDPOINT_URL makes it" in done.err
    assert "missing" not in run("units", "list", "--db", db, cwd=tmp_path).out


def test_what_boto_logs_of_a_request_is_shown_without_its_token_and_signature(caplog: pytest.LogCaptureFixture) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import EndpointConnectionError

    keys = {"aws_access_key_id": "AKIACANARY0000000001", "aws_secret_access_key": "canary-secret"}
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5)
    where = {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}
    client = boto3.client("s3", **where, **keys, aws_session_token="canary-session-token", config=config)
    with caplog.at_level("DEBUG"), pytest.raises(EndpointConnectionError):
        client.list_objects_v2(Bucket="bucket")
    client.close()
    logged = "\n".join(record.getMessage() for record in caplog.records)
    (signature,) = set(re.findall(r"Signature:\s*([0-9a-f]{64})", logged))
    assert "x-amz-security-token:canary-session-token" in logged
    shown = redacted(logged)
    assert [one for one in ("canary", signature) if one in shown.lower()] == []
    assert "x-amz-content-sha256:e3b0c442" in shown
