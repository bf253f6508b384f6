"""``geofetch profiles``, and the commands that ask by a profile's name; no secret stands anywhere afterwards."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import re
import sqlite3
import stat
import struct
import termios
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization

from geofetch import Profiles, Secret, Session, unlock
from geofetch.cli.console import Console
from geofetch.cli.kept import open_file
from geofetch.cli.signals import Signals
from geofetch.cli.work import Work

from . import documents
from .origin.scenes import Scene
from .support.certs import Authority
from .support.mirrors import Mirror, Origins, Tree
from .test_cli import ROOT, Done, files_in, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "profiles.toml"


@pytest.fixture
def profiles(path: Path, tmp_path: Path) -> Any:
    """``geofetch profiles …`` with this file."""

    def call(command: str, *arguments: str | Path, **how: Any) -> Done:
        return run("profiles", command, *arguments, "--profiles", path, cwd=tmp_path, **how)

    return call


def test_a_profile_is_added_listed_shown_and_removed(profiles: Any, path: Path, ca: Authority, tmp_path: Path) -> None:
    client = ca.client("alice")
    done = profiles(
        *("add", "mirror", "--origin", "https://mirror.example", "--ca", ca.path),
        *("--cert", client.cert, "--key", client.key, "--key-password-from", "file:key.txt"),
        *("--proxy", "http://proxy.example:3128", "--proxy-user", "us", "--proxy-password-from", "keyring:proxy/us"),
        *("--user", "reader", "--password-from", "env:PW", "-H", "X-Team: mirrors", "-H", "X-Token: env:TOKEN"),
        *("--query-from", "sig=env:SIG", "--min-tls", "1.2"),
    )
    assert (done.code, done.out, done.err) == (0, "", f"geofetch: the profile mirror is in {path}\n")
    assert tomllib.loads(path.read_text()) == {
        "profiles": {
            "mirror": {
                "origins": ["https://mirror.example:443"],
                "headers": {"X-Team": "mirrors", "X-Token": "env:TOKEN"},
                "user": "reader",
                "password": "env:PW",
                "query": {"sig": "env:SIG"},
                "proxy": "http://proxy.example:3128",
                "proxy_user": "us",
                "proxy_password": "keyring:proxy/us",
                "ca": str(ca.path),
                "cert": str(client.cert),
                "key": str(client.key),
                "key_password": f"file:{tmp_path / 'key.txt'}",
                "min_tls": "1.2",
            }
        }
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert profiles("list").out.split("\t") == [
        "profile",
        "mirror",
        "https://mirror.example",
        "basic, reader, X-Team, X-Token, ?sig=",
        "own CA, client certificate, TLS 1.2 or later",
        "http://proxy.example:3128",
        "env, file, keyring\n",
    ]
    (listed,) = profiles("list", "--json").objects
    assert listed == {
        "event": "profile",
        "name": "mirror",
        "origins": ["https://mirror.example:443"],
        "auth": "basic, reader",
        "headers": ["X-Team", "X-Token"],
        "proxy": ["http://proxy.example:3128"],
        "tls": ["own CA", "client certificate", "TLS 1.2 or later"],
        "secrets": {
            "password": "env:PW",
            "key password": f"file:{tmp_path / 'key.txt'}",
            "proxy password": "keyring:proxy/us",
            "header X-Token": "env:TOKEN",
            "query sig": "env:SIG",
        },
    }
    assert "password\tenv:PW\n" in profiles("show", "mirror").out
    assert "headers.X-Team\tmirrors\n" in profiles("show", "mirror").out
    assert profiles("add", "mirror", "--insecure").code == 2
    assert profiles("add", "mirror", "--insecure", "--replace").code == 0
    assert tomllib.loads(path.read_text())["profiles"]["mirror"] == {"verify": False}
    assert profiles("remove", "mirror").code == 0
    assert profiles("list").out == ""
    unknown = profiles("show", "mirror")
    assert (unknown.code, unknown.out) == (2, "")
    assert "no profile is called 'mirror'" in unknown.err


WRONGLY: list[tuple[list[str], str]] = [
    (["--user", "me"], "--user and --password-from belong together"),
    (["--password-from", "env:X"], "--user and --password-from belong together"),
    (["--user", "me", "--password-from", "s3cret"], "--password-from: a reference is env:NAME, file:PATH"),
    (["--token-from", "env:s3cret/"], "--token-from: env:NAME names an environment variable"),
    (["--query-from", "s3cret"], "--query-from: NAME=REFERENCE is wanted"),
    (["--token-from", "env:A", "-H", "Authorization: env:B"], "a token is sent as Authorization"),
    (["--proxy-user", "me", "--proxy-password-from", "env:A"], "--proxy-user belongs to a proxy"),
    (["--insecure", "--ca", "/dev/null"], "--insecure trusts anyone"),
    (["--token-from", "ask"], "there is no key to encrypt by: geofetch profiles key --to FILE makes one"),
    (["--origin", "https://me:s3cret@h/"], "an origin is as https://mirror.example"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONGLY, ids=[" ".join(one) for one, _ in WRONGLY])
def test_what_cannot_be_kept_is_refused_without_repeating_it(
    profiles: Any, path: Path, arguments: list[str], words: str
) -> None:
    done = profiles("add", "a", *arguments, said="s3cret\n")
    assert done.code == 2
    assert words in done.err
    assert "s3cret" not in done.err
    assert not path.exists()


def test_a_secret_that_is_asked_for_is_kept_encrypted(profiles: Any, path: Path, tmp_path: Path) -> None:
    assert run("profiles", "key", "--to", "key", cwd=tmp_path).code == 0
    key = tmp_path / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = run("profiles", "key", "--to", "key", cwd=tmp_path)
    assert (again.code, "File exists" in again.err) == (2, True)
    path.write_text(f'[fernet]\nkeys = ["file:{key}"]\n')
    done = profiles("add", "a", "--user", "me", "--password-from", "ask", "-H", "X-Token: s3cret-2", said="s3cret-1\n")
    assert done.code == 0, done.err
    assert "s3cret" not in path.read_text() + done.err
    session = Session(Profiles.load(path)["a"])
    assert (session.auth, session.headers["X-Token"]) == (("me", "s3cret-1"), "s3cret-2")
    assert "password\tfernet:…\n" in profiles("show", "a").out


def test_rotation_and_what_stands_in_clear(profiles: Any, path: Path, tmp_path: Path) -> None:
    done = profiles("add", "a", "-H", "X-Token: s3cret-1")
    assert done.code == 0
    assert "holds 1 secret in clear, as [profiles.a] headers.X-Token" in done.err
    assert "headers.X-Token\t***\n" in profiles("show", "a").out
    assert profiles("show", "a", "--json").objects == [{"name": "a", "headers": {"X-Token": "***"}}]
    for name in ("one", "two"):
        assert run("profiles", "key", "--to", name, cwd=tmp_path).code == 0
    assert "1 secret encrypted, 0 encrypted anew" in profiles("rotate", "--key", "file:one").err
    first = path.read_text()
    assert "s3cret" not in first
    assert "0 secrets encrypted, 1 encrypted anew" in profiles("rotate", "--key", "file:two", "--drop-old").err
    (tmp_path / "one").unlink()
    assert path.read_text() != first
    assert Session(Profiles.load(path)["a"]).headers["X-Token"] == "s3cret-1"
    assert tomllib.loads(path.read_text())["fernet"] == {"keys": [f"file:{tmp_path / 'two'}"]}


def test_a_file_that_others_can_read_is_refused_with_its_cure(profiles: Any, path: Path) -> None:
    path.write_text("[profiles.a]\ntoken = 's3cret'\n")
    path.chmod(0o644)
    done = profiles("list")
    assert done.code == 2
    assert f"chmod 600 {path}" in done.err
    assert "s3cret" not in done.err


# ----------------------------------------------------------------------------------------------------------------- test


def test_a_profile_is_tested_by_a_real_connection(profiles: Any, mutual: Mirror, ca: Authority, path: Path) -> None:
    client = ca.client("alice")
    file = mutual.plays([Scene(status=401), Scene(body=b"x"), Scene(status=404), Scene(status=503)])
    profiles("add", "a", "--ca", ca.path, "--cert", client.both, "--user", "me", "--password-from", "env:PW")
    done = profiles("test", "a", file.url)
    assert done.code == 2
    assert "the profile 'a': its password: env:PW: $PW is not set" in done.err
    assert mutual.accepted == 0
    env = {"PW": "s3cret"}
    refused = profiles("test", "a", file.url, env=env)
    assert refused.code == 8
    assert "answer\t401: not let in: other credentials are wanted\n" in refused.out
    done = profiles("test", "a", file.url, env=env)
    assert done.code == 0, done.err
    told = dict(line.split("\t") for line in done.out.splitlines())
    assert told["found"] == "password, by env:PW"
    assert told["TLS"] == "TLSv1.3 with 127.0.0.1, trusted"
    assert told["certificate"].startswith("for localhost, 127.0.0.1, by ")
    assert told["expires"].endswith(" days")
    assert told["sha256"] == ca.server("localhost", "127.0.0.1", expired=False).digest
    assert told["answer"] == "200: let in, the file is there"
    (gone,) = profiles("test", "a", file.url, "--json", env=env).objects
    assert (gone["ok"], gone["exit_code"], gone["status"]) == (False, 7, 404)
    assert gone["secrets"] == {"password": "env:PW"}
    rows = documents.rows((ROOT / "docs/reference/command.rst").read_text(encoding="utf-8"), "json-profiles-test")
    assert set(gone) == {field for row in rows for field in re.findall(r"``(\w+)``", row[0])}
    assert set(gone["tls"][0]) <= {field for row in rows for field in re.findall(r"``(\w+)``", row[1])}
    assert gone["tls"][0]["trusted"] is True
    assert profiles("test", "a", file.url, env=env).code == 9
    assert {one.client for one in mutual.connections} == {"alice"}
    assert mutual.requests[-1].header("Authorization") == "Basic " + base64.b64encode(b"me:s3cret").decode()


def test_who_is_not_trusted_is_described_and_told_nothing(profiles: Any, origins: Origins, ca: Authority) -> None:
    old = origins.https(expired=True)
    profiles("add", "a", "--ca", ca.path, "--token-from", "env:TOKEN")
    done = profiles("test", "a", old.serves(b"x").url, env={"TOKEN": "s3cret"})
    assert done.code == 10
    assert "NOT shown to be trusted" in done.out
    assert "expires\t" in done.out
    assert " days ago\n" in done.out
    assert [request.header("Authorization") for request in old.requests] == [None]


def test_a_test_goes_through_the_proxy_and_keeps_to_the_origins(profiles: Any, origins: Origins) -> None:
    proxy, mirror = origins.proxy(auth=("us", "p@ss/1")), origins.http()
    file = mirror.serves(b"x")
    bare = f"http://{proxy.host}:{proxy.port}"
    arguments = ("--proxy", bare, "--proxy-user", "us", "--proxy-password-from", "env:PW")
    profiles("add", "a", *arguments, "--origin", mirror.base)
    done = profiles("test", "a", file.url, env={"PW": "p@ss/1"})
    assert (done.code, f"proxy\t{bare}\n" in done.out) == (0, True), done.err
    assert proxy.hits == 1
    assert profiles("test", "a", file.url, env={"PW": "wrong"}).code == 8
    strange = profiles("test", "a", "http://other.example/", env={"PW": "p@ss/1"})
    assert strange.code == 2
    assert f"the profile 'a' is for {mirror.base} alone, and not for http://other.example:80" in strange.err
    assert profiles("test", "a", origins.refusing().url.replace("127.0.0.1", "127.0.0.1"), env={"PW": "x"}).code == 2


# ------------------------------------------------------------------------------------------------ get, sync and verify


def test_get_asks_by_the_profile_and_each_source_by_its_own(
    profiles: Any, mirror: Mirror, path: Path, tmp_path: Path
) -> None:
    profiles("add", "a", "--token-from", "env:A", "-H", "X-Team: a", "-H", "X-More: a")
    profiles("add", "b", "--token-from", "env:B")
    # Both have the same priority: who is asked first is chance, and neither is to have it.
    gone, there = mirror.serves(status=404, name="f"), mirror.serves(status=404, name="f")
    env = {"A": "aaa", "B": "bbb"}
    more = ("--source", f"b={there.url}", "-H", "X-More: said", "--profiles", path)
    done = run("get", gone.url, *more, "--profile", "a", "--retries", "1", cwd=tmp_path, env=env)
    assert done.code == 7, done.err
    told = [gone.request.header(name) for name in ("Authorization", "X-Team", "X-More")]
    assert told == ["Bearer aaa", "a", "said"]
    assert there.request.header("Authorization") == "Bearer bbb"
    assert there.request.header("X-More") is None
    unknown = run("get", gone.url, "--profile", "c", "--profiles", path, cwd=tmp_path, env=env)
    assert (unknown.code, "no profile is called 'c'" in unknown.err) == (2, True)
    file = mirror.serves(b"x", name="f")
    named = run("get", file.url, "--profile", "b", cwd=tmp_path, env={**env, "GEOFETCH_PROFILES": str(path)})
    assert named.code == 0, named.err
    assert file.request.header("Authorization") == "Bearer bbb"


@pytest.mark.parametrize("kept", [("--token-from", "env:A"), ("--user", "me", "--password-from", "env:A")], ids=str)
def test_a_header_that_is_said_signs_in_in_place_of_the_profile(
    profiles: Any, mirror: Mirror, path: Path, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    profiles("add", "a", *kept, "-H", "X-Team: env:NOT_SET")
    file = mirror.serves(b"x", name="f")
    said = ("-H", "Authorization: Bearer said", "-H", "x-team: said")
    done = run("get", file.url, *said, "--profiles", path, "--profile", "a", cwd=tmp_path, env={"A": "aaa"})
    assert done.code == 0, done.err
    assert [file.request.header(name) for name in ("Authorization", "X-Team")] == ["Bearer said", "said"]


def test_sync_reads_names_from_a_manifest_and_verify_repairs_by_them(
    profiles: Any, mirror: Mirror, path: Path, tmp_path: Path
) -> None:
    profiles("add", "a", "--token-from", "env:A")
    file = mirror.serves(b"the file", name="f")
    line = {"sources": [{"url": file.url, "profile": "a"}], "path": "f", "size": 8}
    (tmp_path / "list.jsonl").write_text(json.dumps(line) + "\n")
    arguments = ("--into", "store", "--profiles", path)
    assert run("sync", "list.jsonl", *arguments, cwd=tmp_path, env={"A": "aaa"}).code == 0
    (tmp_path / "store" / "f").write_bytes(b"broken!!")
    missing = run("verify", "--repair", "--into", "store", cwd=tmp_path)
    assert missing.code == 11
    assert "records name profiles that are not kept here (a); geofetch profiles add NAME keeps one" in missing.err
    done = run("verify", "--repair", *arguments, cwd=tmp_path, env={"A": "aaa"})
    assert done.code == 0, done.err
    assert (tmp_path / "store" / "f").read_bytes() == b"the file"
    assert {request.header("Authorization") for request in file.requests} == {"Bearer aaa"}


@pytest.mark.parametrize("where", ["source", "spec"])
def test_a_manifest_from_the_network_tells_a_profile_to_nobody_whom_it_is_not_bound_to(
    profiles: Any, origins: Origins, path: Path, tmp_path: Path, where: str
) -> None:
    profiles("add", "a", "--token-from", "env:A")
    home, other = origins.http("127.0.0.1"), origins.http("127.0.0.2")
    # What the manifest's own host is told by a name in it, is told to who wrote the manifest.
    file = (other if where == "source" else home).serves(b"the file", name="f")
    line = {"source": {"url": file.url, "profile": "a"}} if where == "source" else {"source": file.url, "profile": "a"}
    listed = home.serves(json.dumps({**line, "path": "f", "size": 8}).encode(), name="list.jsonl")
    arguments = ("sync", listed.url, "--into", "store", "--profiles", path)
    done = run(*arguments, cwd=tmp_path, env={"A": "aaa"})
    assert (done.code, file.hits) == (2, 0), done.err
    assert "the manifest came over the network and names the profile 'a' for" in done.err
    assert profiles("add", "a", "--token-from", "env:A", "--origin", file.mirror.base, "--replace").code == 0
    done = run(*arguments, cwd=tmp_path, env={"A": "aaa"})
    assert done.code == 0, done.err
    assert file.request.header("Authorization") == "Bearer aaa"


CONF = """
[near]
enabled: 1
type: yum
base_url: {near}
priority: 0
basic_auth_username: me
basic_auth_password: s3cret-pulp

[empty]
enabled: 1
type: yum
base_url: {empty}
priority: 1

[off]
enabled: 0
type: yum
base_url: {off}
"""


def test_pulps_sources_are_imported_and_asked_before_the_manifests_own(
    profiles: Any, origins: Origins, path: Path, tmp_path: Path
) -> None:
    home, near, empty, off = (origins.http(f"127.0.0.{n}") for n in (1, 2, 3, 4))
    tree: Tree = home.tree(6, 100)
    for name in tree.names[:3]:
        near.serves(tree.contents[name], at=f"/pub/{name}")
    near.serves(b"another file of that name" + bytes(75), at=f"/pub/{tree.names[3]}")
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.conf").write_text(CONF.format(near=near.base + "/pub", empty=empty.base, off=off.base))
    done = profiles("import", folder)
    assert done.code == 0, done.err
    assert "3 content sources and 1 profile are in" in done.err
    assert "1 secret in clear, as [profiles.near] password" in done.err
    assert "[near] type has no counterpart here" in done.err
    assert "s3cret" not in done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert profiles("import", folder).code == 2
    assert profiles("import", folder, "--replace").code == 0
    rows = [line.split("\t") for line in profiles("list").out.splitlines()]
    assert [row[:2] for row in rows[:1]] == [["profile", "near"]]
    assert rows[1:] == [
        ["source", "near", "0", "near", "yes", near.base + "/pub/"],
        ["source", "off", "0", "-", "no", off.base + "/"],
        ["source", "empty", "1", "-", "yes", empty.base + "/"],
    ]
    arguments = ("--into", "store", "--profiles", path, "--retries", "0", "-u", "home:s3cret-home")
    done = run("sync", tree.sums_url, *arguments, "--alternate", "all", cwd=tmp_path)
    assert done.code == 0, done.err
    # Of three files the first source had nothing, or another version, and the second nothing.
    assert ", 6 asked elsewhere\n" in done.err
    assert "retried" not in done.err
    for name, content in tree.contents.items():
        assert (tmp_path / "store" / name).read_bytes() == content
    assert {name: count for name, count in tree.hits.items() if name in tree.names} == dict.fromkeys(tree.names[3:], 1)
    assert {one.header("Authorization") for one in near.requests} == {
        "Basic " + base64.b64encode(b"me:s3cret-pulp").decode()
    }
    assert {one.header("Authorization") for one in empty.requests} == {None}
    assert (empty.hits, off.hits) == (3, 0)
    idle = run("sync", tree.sums_url, *arguments, "--alternate", "off", cwd=tmp_path)
    assert (idle.code, "the content source 'off' is not enabled" in idle.err) == (2, True)
    unknown = run("sync", tree.sums_url, *arguments, "--alternate", "far", cwd=tmp_path)
    assert unknown.code == 2
    assert "no content source is called 'far'" in unknown.err
    assert profiles("remove", "near").code == 2
    assert profiles("remove", "near", "--source").code == 0
    assert profiles("remove", "near").code == 0


def test_what_is_imported_is_encrypted_where_the_file_names_a_key(profiles: Any, path: Path, tmp_path: Path) -> None:
    path.write_text('[fernet]\nkeys = ["env:KEY"]\n')
    (tmp_path / "a.conf").write_text(CONF.format(near="https://near.example", empty="http://e/", off="http://o/"))
    done = profiles("import", "a.conf", "-vvv", env={"KEY": Fernet.generate_key().decode()})
    assert done.code == 0, done.err
    assert "s3cret" not in path.read_text() + done.err
    assert Profiles.load(path).table("near")["password"].startswith("fernet:")


def test_who_a_source_that_is_not_enabled_would_be_asked_by_is_told(profiles: Any, path: Path) -> None:
    path.write_text(
        '[profiles.a]\ntoken = "s3cret"\n[sources.s]\nurls = ["https://h/"]\nprofile = "a"\nenabled = false\n'
    )
    path.chmod(0o600)
    assert profiles("list").out.splitlines() == ["profile\ta\tany\ttoken\t-\t-\t-", "source\ts\t0\ta\tno\thttps://h/"]
    told = profiles("list", "--json")
    assert [(one["event"], one["name"]) for one in told.objects] == [("profile", "a"), ("source", "s")]
    assert (told.objects[1]["profile"], told.objects[1]["enabled"]) == ("a", False)
    assert "s3cret" not in told.out + told.err
    reference = (ROOT / "docs/reference/command.rst").read_text(encoding="utf-8")
    for one in told.objects:
        rows = documents.rows(reference, f"json-profiles-{one['event']}")
        assert {name for row in rows for name in re.findall(r"``(\w+)``", row[0])} == set(one)


def test_on_a_terminal_it_is_a_table(profiles: Any, path: Path) -> None:
    path.write_text('[profiles.a]\ntoken = "env:A"\n[sources.s]\nurls = ["https://h/"]\npriority = 2\nprofile = "a"\n')
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    try:
        assert profiles("list", stdout=theirs, env={"TERM": "dumb"}).code == 0
    finally:
        os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        lines = [line.split() for line in terminal.read(65536).decode().splitlines()]
    assert lines == [
        ["name", "for", "signs", "in", "by", "TLS", "proxy", "secrets"],
        ["a", "any", "token", "-", "-", "env"],
        ["content", "source", "priority", "asked", "by", "enabled", "URL"],
        ["s", "2", "a", "yes", "https://h/"],
    ]


# -------------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_of_the_file_is_shown_by_nobody_in_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlock, "observers", [])
    monkeypatch.setenv("TOKEN", "resolved-later")
    path.write_text("[profiles.a]\ntoken = 'env:TOKEN'\n[profiles.b]\ntoken = 'in-clear'\n")
    path.chmod(0o600)
    work = Work("get", {"profiles_file": str(path)}, Console(), Signals(print))
    kept = open_file(work)
    assert work.console.clean("it is in-clear, and resolved-later") == "it is ***, and resolved-later"
    Session(kept["a"])
    assert work.console.clean("it is in-clear, and resolved-later") == "it is ***, and ***"


#: Six kinds of secret, each by another way; letters of its own tell a leak's way.
CANARIES = {
    kind: f"canary{kind}7c1e" for kind in ("password", "proxypassword", "header", "keypassphrase", "query", "cookie")
}


def forms(secret: str) -> Iterator[str]:
    """The secret as it is, and as it travels."""
    yield secret
    for user in ("user", "proxyuser"):
        encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
        yield encoded
        yield quote(encoded)


def leaks(text: str) -> list[str]:
    return [kind for kind, secret in CANARIES.items() if any(form in text for form in forms(secret))]


def locked(ca: Authority, folder: Path) -> tuple[Path, Path]:
    """A client's certificate, and its key that wants a passphrase."""
    client = ca.client("alice")
    key = serialization.load_pem_private_key(client.key.read_bytes(), None)
    passphrase = serialization.BestAvailableEncryption(CANARIES["keypassphrase"].encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, passphrase)
    path = folder / "locked.pem"
    path.write_bytes(pem)
    return client.cert, path


def test_six_kinds_of_secret_are_used_and_stand_nowhere_afterwards(
    profiles: Any, origins: Origins, ca: Authority, path: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"  # where secrets are; all the rest is searched
    outside.mkdir()
    fernet = Fernet.generate_key().decode()
    (outside / "header").write_text(CANARIES["header"])
    (outside / "header").chmod(0o600)
    cert, key = locked(ca, outside)
    proxy, server = origins.proxy(auth=("proxyuser", CANARIES["proxypassword"])), origins.https(wants=ca)
    path.write_text('[fernet]\nkeys = ["env:FERNET"]\n')
    env = {
        "FERNET": fernet,
        "PW": CANARIES["password"],
        "PROXY": CANARIES["proxypassword"],
        "PASSPHRASE": CANARIES["keypassphrase"],
        "QUERY": CANARIES["query"],
    }
    said = [
        profiles(
            *("add", "all", "--ca", ca.path, "--cert", cert, "--key", key, "--key-password-from", "env:PASSPHRASE"),
            *("--user", "user", "--password-from", "env:PW", "-H", f"X-Token: file:{outside / 'header'}"),
            *("-H", f"Cookie: {CANARIES['cookie']}", "--query-from", "token=env:QUERY"),
            *("--proxy", f"http://{proxy.host}:{proxy.port}"),
            *("--proxy-user", "proxyuser", "--proxy-password-from", "env:PROXY", "-vvv"),
            env=env,
        )
    ]
    assert said[0].code == 0, said[0].err
    good, bad = server.serves(b"the file", name="f"), server.serves(status=503, name="g")
    arguments = ("--profiles", path, "--profile", "all", "--retries", "1", "-vvv")
    said += [
        profiles("list", env=env),
        profiles("list", "--json", env=env),
        profiles("show", "all", env=env),
        profiles("test", "all", good.url, "-vvv", env=env),
        profiles("test", "all", bad.url, "--json", env=env),
        run("get", good.url, "--into", "store", *arguments, "--json", cwd=tmp_path, env=env),
        run("get", bad.url, "--into", "store", *arguments, "--json", cwd=tmp_path, env=env),
        run("get", "https://127.0.0.1:1/x", "--into", "store", *arguments, cwd=tmp_path, env=env),
        run("get", good.url, *arguments, "-o", "f", cwd=tmp_path, env={**env, "PASSPHRASE": CANARIES["query"]}),
        run("units", "export", "--into", "store", "--to", "exported", cwd=tmp_path, env=env),
        run("units", "list", "--json", "--into", "store", cwd=tmp_path, env=env),
        profiles("rotate", "-vvv", env=env),
    ]
    assert [one.code for one in said] == [0, 0, 0, 0, 0, 9, 0, 9, 4, 2, 0, 0, 0], [one.err for one in said]
    # The ears are open: it was all used.
    sent = good.requests[-1]
    assert sent.header("X-Token") == CANARIES["header"]
    assert sent.header("Cookie") == CANARIES["cookie"]
    assert sent.header("Authorization") == "Basic " + base64.b64encode(f"user:{CANARIES['password']}".encode()).decode()
    assert CANARIES["query"] in sent.target
    assert {one.client for one in server.connections} == {"alice"}
    assert proxy.hits >= 4
    words = "\n".join(one.out + one.err for one in said)
    written = {
        name: (tmp_path / name).read_bytes().decode("latin-1")
        for name in files_in(tmp_path)
        if not name.startswith("outside/")
    }
    dump = "\n".join(sqlite3.connect(tmp_path / "store" / ".geofetch" / "units.db").iterdump())
    for place, text in {"words": words, "database": dump, **written}.items():
        assert leaks(text) == [], place
        assert fernet not in text, place
    assert "profiles.toml" in written
    assert any(name.startswith("exported/") for name in written)
    assert "127.0.0.1" in dump
    assert Secret("env:PW").shown in path.read_text()
    assert os.environ.get("PW") is None
