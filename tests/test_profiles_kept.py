"""Profiles kept in a file: read, refused with words, changed so that all else stays; secrets looked for when needed."""

from __future__ import annotations

import logging
import os
import pickle
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography.fernet import Fernet
from requests.auth import HTTPBasicAuth, HTTPDigestAuth, HTTPProxyAuth

import geofetch
from geofetch import Pool, Profile, Profiles, Secret, Session, Source, Spec, SpecError
from geofetch.profile_files import ContentSource, default_path, read_conf
from geofetch.profile_files.fields import KEYS
from geofetch.profile_files.sources import with_alternates

from . import documents
from .support.certs import Authority
from .support.mirrors import Mirror, Origins
from .support.process import ROOT

Kept = Callable[..., Profiles]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "profiles.toml"


@pytest.fixture
def kept(path: Path) -> Kept:
    """The profiles of a file with this text."""

    def load(text: str, mode: int = 0o600, **how: Any) -> Profiles:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return Profiles.load(path, **how)

    return load


# ------------------------------------------------------------------------------------------------------------- the file

WHOLE = """
# who we are
[profiles.mirror]
origins = ["https://Mirror.example", "https://*.cdn.example:8443"]
user = "reader"
password = "env:PW"          # from the vault
headers = {"X-Team" = "mirrors", "X-Token" = "env:TOKEN"}
query = {"sig" = "env:TOKEN"}
proxy = "http://proxy.example:3128"
proxy_user = "us"
proxy_password = "plain:env:not a reference"
ca = "ca.pem"
cert = "~/client.pem"
key = "env:KEY"
key_password = "file:key.txt"
min_tls = "1.3"

[profiles."with a space"]
token = "keyring:mirror/me"
verify = false

[sources.mirror]
urls = ["https://mirror.example/a/", "https://mirror.example/b/"]
priority = 3
profile = "mirror"
"""


def test_a_table_makes_the_profile_that_it_says(kept: Kept, path: Path) -> None:
    profiles = kept(WHOLE)
    assert list(profiles) == ["mirror", "with a space"]
    assert profiles["mirror"] == Profile(
        name="mirror",
        origins=("https://mirror.example:443", "https://*.cdn.example:8443"),
        auth=("reader", Secret("env:PW")),
        headers={"X-Team": "mirrors", "X-Token": Secret("env:TOKEN")},
        query={"sig": Secret("env:TOKEN")},
        proxies="http://proxy.example:3128",
        proxy_auth=("us", "env:not a reference"),
        ca=str(path.parent / "ca.pem"),
        cert=(os.path.expanduser("~/client.pem"), Secret("env:KEY")),
        key_password=Secret(f"file:{path.parent / 'key.txt'}"),
        min_tls="1.3",
    )
    assert profiles["with a space"] == Profile(name="with a space", token=Secret("keyring:mirror/me"), verify=False)
    assert profiles.sources == {
        "mirror": ContentSource("mirror", ("https://mirror.example/a/", "https://mirror.example/b/"), 3, 1, "mirror")
    }


WRONGLY: dict[str, tuple[str, str]] = {
    "no TOML": ("[profiles.a\n", r"profiles.toml is no TOML: .*line 1"),
    "unknown section": ("[profile.a]\nuser = 'x'\n", r"\[profile\]: no such table; did you mean \[profiles\]\?"),
    "unknown key": (
        "[profiles.a]\npasword = 's3cret'\n",
        r"profiles.toml: \[profiles.a\] pasword: no such key; did you mean password\?",
    ),
    "unknown key, nothing near": (
        "[profiles.a]\nzzz = 1\n",
        r"\[profiles.a\] zzz: no such key; there are origins, head",
    ),
    "number for text": ("[profiles.a]\nuser = 1\n", r"\[profiles.a\] user: text in quotes is wanted, not a number"),
    "text for a flag": ("[profiles.a]\nverify = 'no'\n", r"\[profiles.a\] verify: true or false is wanted, not text"),
    "text for a list": (
        "[profiles.a]\norigins = 'h'\n",
        r"\[profiles.a\] origins: a list of texts is wanted, not text",
    ),
    "number in a table": ("[profiles.a]\nheaders = {A = 1}\n", r"\[profiles.a\] headers: a table of texts"),
    "user alone": ("[profiles.a]\nuser = 'x'\n", r"\[profiles.a\] user: password is missing"),
    "key alone": ("[profiles.a]\nkey = 'x'\n", r"\[profiles.a\] key: cert is missing"),
    "unknown auth": (
        "[profiles.a]\nuser='x'\npassword='s3cret'\nauth='ntlm'\n",
        r"\[profiles.a\] auth: basic or digest is wanted",
    ),
    "no reference": ("[profiles.a]\ntoken = 'env:s3cret token'\n", r"\[profiles.a\] token: env:NAME names an env"),
    "no header": ('[profiles.a]\nheaders = {A = "s3cret\\n"}\n', r"\[profiles.a\]: header 'A': a line break"),
    "no origin": ("[profiles.a]\norigins = ['https://h/path']\n", r"\[profiles.a\]: an origin is as https://mirror"),
    "no proxy": ("[profiles.a]\nproxy = 'ftp://me:s3cret@p'\n", r"\[profiles.a\]: a proxy is a URL as"),
    "CA and anyone": ("[profiles.a]\nca = 'x'\nverify = false\n", r"\[profiles.a\]: verify=False and a CA contradict"),
    "no name": ("[profiles.' a']\nverify = true\n", r"a profile's name is text in one line"),
    "a name that is taken": ("[profiles.stranger]\nverify = true\n", r"'stranger' is what geofetch calls"),
    "no table": ("profiles = 1\n", r"\[profiles\]: a table is wanted for each, as \[profiles.mirror\]"),
    "a value for a table": ("[profiles]\na = 1\n", r"\[profiles.a\]: a table is wanted, not a number"),
    "key in clear": (f"[fernet]\nkeys = ['{'s3cret' * 7}']\n", r"\[fernet\] keys: a key comes from outside: env:NAME"),
    "source without URLs": ("[sources.a]\npriority = 1\n", r"\[sources.a\] urls: it is missing"),
    "source of nobody": (
        "[sources.a]\nurls=['http://h/']\nprofile='b'\n",
        r"\[sources.a\] profile: no profile is call",
    ),
    "source with a password": (
        "[sources.a]\nurls=['http://me:s3cret@h/']\n",
        r"\[sources.a\] urls: a URL of it holds a name or a password; a profile says who asks",
    ),
    "source before the first": (
        "[sources.a]\nurls=['http://h/']\npriority=-1\n",
        r"\[sources.a\] priority: a whole num",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONGLY.values(), ids=list(WRONGLY))
def test_what_is_wrong_is_named_by_file_table_and_key_and_never_repeated(kept: Kept, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        kept(text)
    assert "profiles.toml" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_others_can_read_is_refused_as_soon_as_a_secret_stands_in_it(kept: Kept, path: Path) -> None:
    clear = "[profiles.a]\nuser = 'me'\npassword = 's3cret'\n"
    assert kept(clear, 0o600)["a"].auth == ("me", "s3cret")
    with pytest.raises(SpecError, match=r"mode 640.*\[profiles.a\] password: chmod 600") as caught:
        kept(clear, 0o640)
    assert "s3cret" not in str(caught.value)
    assert list(kept("[profiles.a]\ntoken = 'env:T'\nheaders = {'X-Team' = 'a'}\n", 0o644)) == ["a"]
    with pytest.raises(SpecError, match=r"can be written by others \(mode 664\)"):
        kept("[profiles.a]\ntoken = 'env:T'\n", 0o664)


CLEAR = {
    "token": "token = 'x'",
    "key password": "cert = 'c'\nkey_password = 'x'",
    "header": "headers = {'X-Auth-Token' = 'x'}",
    "cookie": "headers = {Cookie = 'x'}",
    "query": "query = {v = 'x'}",
    "proxy password": "proxy = 'http://p:1'\nproxy_user = 'u'\nproxy_password = 'x'",
    "userinfo of a proxy": "proxy = 'http://u:x@p:1'",
    "userinfo of one of several proxies": "proxy = {https = 'http://u:x@p:1'}",
    "key": "cert = 'c'\nkey = '''-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----'''",
}


@pytest.mark.parametrize("line", CLEAR.values(), ids=list(CLEAR))
def test_each_kind_of_secret_in_clear_closes_the_file(kept: Kept, line: str) -> None:
    kept(f"[profiles.a]\n{line}\n", 0o600)
    with pytest.raises(SpecError, match="holds a secret in clear"):
        kept(f"[profiles.a]\n{line}\n", 0o644)


def test_the_file_that_is_meant_where_none_is_named(monkeypatch: pytest.MonkeyPatch, kept: Kept, path: Path) -> None:
    assert default_path().endswith("geofetch/profiles.toml")
    assert list(Profiles.load()) == []
    kept("[profiles.a]\ntoken = 'env:T'\n")
    monkeypatch.setenv("GEOFETCH_PROFILES", str(path))
    assert list(Profiles.load()) == ["a"]
    path.unlink()
    with pytest.raises(SpecError, match="is not there; geofetch profiles add NAME makes it"):
        Profiles.load()


# -------------------------------------------------------------------------------------------------------------- changed


def test_what_is_changed_is_written_and_all_else_stays_as_it_stood(kept: Kept, path: Path) -> None:
    profiles = kept(WHOLE)
    profiles.add(Profile(name="new", token=Secret("env:T"), proxies={"https": "http://p:1"}, ca=b"-----BEGIN A\nB"))
    profiles.remove("with a space")
    assert profiles.save() == str(path)
    text = path.read_text()
    assert '# who we are\n[profiles.mirror]\norigins = ["https://Mirror.example"' in text
    assert 'password = "env:PW"          # from the vault\n' in text
    assert "with a space" not in text
    again = Profiles.load(path)
    assert dict(again) == dict(profiles)
    assert again["new"].ca == b"-----BEGIN A\nB"
    assert again.sources == profiles.sources


def test_a_profile_is_replaced_only_when_that_is_said(kept: Kept) -> None:
    profiles = kept(WHOLE)
    with pytest.raises(SpecError, match="already; add"):
        profiles.add(Profile(name="mirror"))
    profiles.add(Profile(name="mirror", min_tls="1.2"), replacing=True)
    profiles.save()
    assert profiles.load(profiles.path)["mirror"] == Profile(name="mirror", min_tls="1.2")
    with pytest.raises(SpecError, match="the content source 'mirror' is asked by the profile 'mirror'"):
        profiles.remove("mirror")
    with pytest.raises(SpecError, match=r"no profile is called 'nobody' in .*; there are: mirror, with a space"):
        profiles.remove("nobody")


def test_a_new_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        profiles = Profiles([Profile(name="a", auth=("me", "s3cret"))], path=path)
        profiles.save()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["profiles.toml"]
    assert Profiles.load(path)["a"] == profiles["a"]


def test_a_file_that_all_could_read_is_closed_when_a_secret_comes_into_it(kept: Kept, path: Path) -> None:
    profiles = kept("[profiles.a]\ntoken = 'env:T'\n", 0o644)
    profiles.add(Profile(name="b", token=Secret("env:B")))
    profiles.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    profiles.add(Profile(name="c", token="s3cret"))
    profiles.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_who_change_it_at_once_lose_nothing_of_each_other(kept: Kept, path: Path) -> None:
    ours, theirs = kept(WHOLE), Profiles.load(path)
    ours.add(Profile(name="ours"))
    theirs.add(Profile(name="theirs"))
    theirs.remove("with a space")
    gevent.joinall([gevent.spawn(ours.save), gevent.spawn(theirs.save)], raise_error=True)
    assert set(Profiles.load(path)) == {"mirror", "ours", "theirs"}


def test_a_copy_in_another_folder_means_the_same_files(kept: Kept, path: Path, tmp_path: Path) -> None:
    profiles = kept(
        "[fernet]\nkeys = ['file:lock']\n"
        "[profiles.a]\nca = 'ca.pem'\ncert = 'me.pem'\nkey_password = 'file:pw'\ntoken = 'plain:env:literal'\n"
    )
    copy = tmp_path / "elsewhere" / "profiles.toml"
    profiles.save(copy)
    assert Profiles.load(copy)["a"] == profiles["a"]
    assert profiles["a"].ca == str(path.parent / "ca.pem")
    assert Profiles.load(copy).keys_of_secrets == (Secret(f"file:{path.parent / 'lock'}"),)
    assert Profiles.load(path).table("a")["ca"] == "ca.pem"  # where it stood, it is as it was
    profiles.save()
    assert Profiles.load(path).table("a")["ca"] == "ca.pem"


def test_eight_processes_that_add_at_once_are_all_kept(path: Path) -> None:
    script = "import geofetch, sys; n, p = sys.argv[1:]; k = geofetch.Profiles(path=p)\n"
    script += "k.add(geofetch.Profile(name=n)); k.save()"
    running = [subprocess.Popen([sys.executable, "-c", script, f"p{n}", path], cwd=ROOT) for n in range(8)]
    assert [one.wait(60) for one in running] == [0] * 8
    assert set(Profiles.load(path)) == {f"p{n}" for n in range(8)}


def test_code_serves_a_pool_and_has_no_place_in_a_file(path: Path) -> None:
    for profile in (Profile(name="a", token=Secret(lambda: "x")), Profile(name="a", auth=lambda request: request)):
        profiles = Profiles([profile], path=path)
        assert profiles["a"] == profile
        with pytest.raises(SpecError, match=r"the profile 'a' cannot be written down: .* code"):
            profiles.save()
        assert not path.exists()


def test_digest_auth_is_kept(kept: Kept) -> None:
    profiles = kept("")
    profiles.add(Profile(name="a", auth=HTTPDigestAuth("me", Secret("env:PW"))))
    profiles.save()
    found = Profiles.load(profiles.path)["a"].auth
    assert (type(found), found.username, found.password) == (HTTPDigestAuth, "me", Secret("env:PW"))


# ------------------------------------------------------------------------------------------------------------ resolved


def test_secrets_are_looked_for_when_a_session_is_made(
    kept: Kept, path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = kept(
        "[profiles.a]\nuser = 'me'\npassword = 'env:PW'\nheaders = {X-Key = 'file:key'}\nquery = {sig = 'env:SIG'}\n"
    )
    monkeypatch.setenv("SIG", "s i&g")
    (path.parent / "key").write_text("kéy\n".replace("é", "e"))
    file = mirror.serves(b"x")
    with pytest.raises(SpecError, match=r"the profile 'a': its password: env:PW: \$PW is not set; export it"):
        Session(profiles["a"])
    monkeypatch.setenv("PW", "s3cret")
    with Session(profiles["a"]) as session:
        assert session.get(file.url).ok
    request = mirror.requests[-1]
    assert (request.header("X-Key"), request.header("Authorization")) == ("key", "Basic bWU6czNjcmV0")
    assert request.target == f"{file.path}?sig=s+i%26g"


class Teams(HTTPBasicAuth):
    """Somebody's own."""

    team = "mirrors"


@pytest.mark.parametrize("kind", [HTTPBasicAuth, HTTPProxyAuth, Teams])
def test_an_auth_of_requests_kind_is_told_its_password_not_the_reference(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, kind: type[HTTPBasicAuth]
) -> None:
    monkeypatch.setenv("PW", "s3cret")
    auth = kind("me", Secret("env:PW"))  # type: ignore[arg-type]
    with Session(Profile(auth=auth)) as session:
        assert session.get(mirror.serves(b"x").url).ok
    name = "Proxy-Authorization" if kind is HTTPProxyAuth else "Authorization"
    assert mirror.requests[-1].header(name) == "Basic bWU6czNjcmV0"
    assert auth.password == Secret("env:PW")  # the caller's own is as it was


def test_a_pool_takes_them_as_they_are_and_asks_each_source_by_its_own(
    kept: Kept, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = kept("[profiles.a]\ntoken = 'env:A'\n[profiles.b]\ntoken = 'env:B'\n[profiles.c]\ntoken = 'env:GONE'\n")
    monkeypatch.setenv("A", "aaa")
    monkeypatch.setenv("B", "bbb")
    gone, there, never = mirror.serves(status=404), mirror.serves(b"x", name="f"), mirror.serves(b"x")
    with Pool(2, profiles=profiles, retries=0) as pool:
        (outcome, failed) = pool.map(
            [
                Spec(sources=[Source(gone.url, profile="a"), Source(there.url, 1, profile="b")], path="f"),
                Spec(Source(never.url, profile="c")),
            ]
        )
        assert outcome.raise_for_error().source == there
        outcome.location.close()
    assert gone.request.header("Authorization") == "Bearer aaa"
    assert there.request.header("Authorization") == "Bearer bbb"
    assert isinstance(failed.error, SpecError)
    assert "the profile 'c': its token: env:GONE: $GONE is not set" in str(failed.error)
    assert never.hits == 0


UNRESOLVED: dict[str, tuple[Any, str]] = {
    "variable": ("env:GONE", r"env:GONE: \$GONE is not set; export it"),
    "empty variable": ("env:EMPTY", r"env:EMPTY: \$EMPTY is empty"),
    "file": ("file:/no/such/file", r"file:/no/such/file cannot be read: No such file or directory"),
    "folder": ("file:/", r"file:/ cannot be read: Is a directory"),
    "callable": (lambda: 1 / 0, r"callable <lambda> raised ZeroDivisionError"),
    "callable that gives no text": (lambda: 7, r"callable <lambda> gave a int, no text"),
    "encrypted, and no key": ("fernet:gAAAAA", r"fernet:… without a key to open it"),
}


@pytest.mark.parametrize(("reference", "words"), UNRESOLVED.values(), ids=list(UNRESOLVED))
def test_a_reference_that_does_not_resolve_is_named_with_its_cure(
    reference: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(SpecError, match=f"the profile 'a': its token: {words}"):
        Session(Profile(name="a", token=Secret(reference)))


def test_what_is_no_reference_is_not_repeated() -> None:
    for wrong in ("s3cret", "vault:s3cret", "env:s3cret/x", "keyring:s3cret"):
        with pytest.raises(SpecError) as caught:
            Secret(wrong)
        assert "s3cret" not in str(caught.value)


def test_a_secret_in_a_file_that_others_read_is_used_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\r\n")
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING, "geofetch"):
        for _ in range(3):
            assert Session(Profile(token=Secret(f"file:{file}"))).headers["Authorization"] == "Bearer s3cret"
    assert [record.getMessage() for record in caplog.records] == [
        f"the secret in {file} can be read by others (mode 644): chmod 600 it"
    ]


BACKEND = """
import json, keyring.backend
class Keyring(keyring.backend.KeyringBackend):
    priority = 1
    def get_password(self, service, user):
        return {"mirror/me": "from the keyring"}.get(f"{service}/{user}")
    def set_password(self, service, user, password): raise NotImplementedError
    def delete_password(self, service, user): raise NotImplementedError
"""

ASKED = """
import geofetch
print(geofetch.Session(geofetch.Profile(token=geofetch.Secret("keyring:mirror/me"))).headers["Authorization"])
try:
    geofetch.Session(geofetch.Profile(token=geofetch.Secret("keyring:mirror/you")))
except geofetch.SpecError as error:
    print(error)
"""


def test_the_systems_keyring_is_asked(tmp_path: Path) -> None:
    (tmp_path / "ring.py").write_text(BACKEND)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHON_KEYRING_BACKEND": "ring.Keyring"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "Bearer from the keyring",
        "the profile: its token: keyring:mirror/you is not in the keyring; keyring set mirror you puts it there",
    ]


def test_a_file_that_is_slow_to_read_holds_up_nobody(tmp_path: Path, ticker: Any) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    session = gevent.spawn(Session, Profile(token=Secret(f"file:{pipe}")))
    with ticker:
        gevent.sleep(0.3)
        assert not session.ready()
        number = os.open(pipe, os.O_WRONLY)  # the reader is there: on its thread
        os.write(number, b"late\n")
        os.close(number)
        assert session.get(timeout=10).headers["Authorization"] == "Bearer late"
    assert ticker.worst_s < 0.25


def test_no_secret_is_in_a_repr_nor_survives_in_an_error(kept: Kept) -> None:
    profiles = kept(WHOLE.replace("env:PW", "s3cret"))
    for one in (profiles, profiles["mirror"], Secret("fernet:s3cret", (Secret("env:K"),)), [*profiles.values()]):
        assert "s3cret" not in repr(one) + str(one)
    assert pickle.loads(pickle.dumps(profiles["mirror"])) == profiles["mirror"]


# -------------------------------------------------------------------------------------------------------- encrypted


def made_key(monkeypatch: pytest.MonkeyPatch, name: str) -> Fernet:
    key = Fernet.generate_key().decode()
    monkeypatch.setenv(name, key)
    return Fernet(key)


def test_a_blank_line_parts_each_table_from_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_key(monkeypatch, "K")
    path = tmp_path / "p.toml"
    for name in ("a", "b"):
        profiles = Profiles(path=path) if name == "a" else Profiles.load(path)
        profiles.add(Profile(name=name, token=Secret("env:A")))
        profiles.save()
        profiles.rotate(Secret("env:K"))
        profiles.save()
    lines = path.read_text().splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("[")]
    assert [lines[number] for number in heads] == ["[profiles.a]", "[profiles.b]", "[fernet]"]
    assert {lines[number - 1] for number in heads} == {""}
    assert "fernet:" in lines[1]
    assert "plain:" in lines[1]


def test_what_is_encrypted_in_place_is_opened_by_any_of_the_keys(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = made_key(monkeypatch, "OLD"), made_key(monkeypatch, "NEW")
    text = "[fernet]\nkeys = ['env:NEW', 'env:OLD']\n[profiles.a]\nuser='u'\n"
    for key in (old, new):
        profiles = kept(f"{text}password = 'fernet:{key.encrypt(b's3cret').decode()}'\n", 0o644)
        assert Session(profiles["a"]).auth == ("u", "s3cret")
    third = made_key(monkeypatch, "THIRD")
    profiles = kept(f"{text}password = 'fernet:{third.encrypt(b's3cret').decode()}'\n")
    with pytest.raises(SpecError, match=r"fernet:… is opened by none of the keys there are \(env:NEW, env:OLD\)"):
        Session(profiles["a"])
    assert Session(Profiles.load(profiles.path, keys=[Secret("env:THIRD")])["a"]).auth == ("u", "s3cret")
    monkeypatch.setenv("OLD", "no key")
    with pytest.raises(SpecError, match="env:OLD holds no Fernet key; geofetch profiles key makes one"):
        Session(profiles["a"])


def test_rotation_encrypts_all_by_the_new_key_and_leaves_references(
    kept: Kept, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_key(monkeypatch, "FIRST")
    second = made_key(monkeypatch, "SECOND")
    profiles = kept(
        "[profiles.a]\nuser = 'u'\npassword = 's3cret-1'   # stays beside it\n"
        "headers = {X-Token = 's3cret-2', X-Team = 'mirrors', X-Key = 'env:KEY'}\n"
        "[profiles.b]\nproxy = 'http://u:s3cret%2F3@p:1'\n"
        "[profiles.c]\ntoken = 'plain:env:s3cret'\n"
    )
    with pytest.raises(SpecError, match="there is no key to encrypt by: geofetch profiles key --to FILE makes one"):
        profiles.rotate()
    assert profiles.rotate(Secret("env:FIRST")) == (4, 0)
    profiles.save()
    text = path.read_text()
    assert "s3cret" not in text
    assert "# stays beside it" in text
    assert 'X-Key = "env:KEY"' in text
    assert 'X-Team = "mirrors"' in text
    again = Profiles.load(path)
    monkeypatch.setenv("KEY", "k")
    assert Session(again["a"]).auth == ("u", "s3cret-1")
    assert Session(again["a"]).headers["X-Token"] == "s3cret-2"
    assert Session(again["b"]).proxies == {"all": "http://u:s3cret%2F3@p:1"}
    assert Session(again["c"]).headers["Authorization"] == "Bearer env:s3cret"
    assert again.rotate(Secret("env:SECOND"), alone=True) == (0, 4)
    again.save()
    last = Profiles.load(path)
    monkeypatch.delenv("FIRST")
    assert Session(last["c"]).headers["Authorization"] == "Bearer env:s3cret"
    assert [one.reference for one in last.keys_of_secrets] == ["env:SECOND"]
    token = str(last.table("a")["password"]).removeprefix("fernet:").encode()
    assert second.decrypt(token) == b"s3cret-1"


@pytest.mark.parametrize("first", ["rotation", "addition"])
def test_no_secret_is_left_to_a_key_that_a_rotation_drops_meanwhile(
    kept: Kept, path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    made_key(monkeypatch, "FIRST")
    made_key(monkeypatch, "SECOND")
    ours, theirs = kept("[fernet]\nkeys = ['env:FIRST']\n[profiles.a]\ntoken = 's3cret-1'\n"), Profiles.load(path)
    sealer = theirs.sealer()
    theirs.add(Profile(name="b", token=Secret(sealer.seal("s3cret-2"), sealer.keys)))
    ours.rotate(Secret("env:SECOND"), alone=True)
    one, other = (ours, theirs) if first == "rotation" else (theirs, ours)
    one.save()
    before = path.read_text()
    with pytest.raises(SpecError, match="was changed by another meanwhile, and nothing is written: do it again"):
        other.save()
    assert path.read_text() == before
    for profile in Profiles.load(path).values():
        assert Session(profile).headers["Authorization"].startswith("Bearer s3cret-")


def test_a_rotation_that_cannot_open_one_secret_changes_none(
    kept: Kept, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_key(monkeypatch, "KEY")
    lost = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    profiles = kept(f"[fernet]\nkeys=['env:KEY']\n[profiles.a]\ntoken='s3cret'\n[profiles.b]\ntoken='fernet:{lost}'\n")
    before = path.read_text()
    with pytest.raises(SpecError, match=r"\[profiles.b\] token: none of the keys there are \(env:KEY\) opens it"):
        profiles.rotate()
    profiles.save()
    assert path.read_text() == before


# ------------------------------------------------------------------------------------------------------ allowed origins


@pytest.mark.parametrize(
    ("allowed", "url", "fits"),
    [
        ("https://mirror.example", "https://mirror.example/a", True),
        ("https://mirror.example", "https://MIRROR.example.:443/a", True),
        ("mirror.example", "https://mirror.example/a", True),
        ("mirror.example", "http://mirror.example/a", False),
        ("http://mirror.example", "http://mirror.example:80/a", True),
        ("https://mirror.example", "https://mirror.example:8443/a", False),
        ("mirror.example:8443", "https://mirror.example:8443/a", True),
        ("https://mirror.example", "https://mirror.example.evil/a", False),
        ("https://mirror.example", "https://evilmirror.example/a", False),
        ("*.cdn.example", "https://a.b.cdn.example/a", True),
        ("*.cdn.example", "https://cdn.example/a", False),
        ("*.cdn.example", "https://evilcdn.example/a", False),
        ("https://[::1]:8443", "https://[::1]:8443/a", True),
        ("https://mirror.example", "https://me@evil.example#@mirror.example/", False),
    ],
)
def test_an_origin_fits_what_is_allowed(allowed: str, url: str, fits: bool) -> None:
    assert Profile(origins=(allowed,)).allows(geofetch.Source(url).origin) is fits


def test_a_profile_is_told_to_no_other_origin(origins: Origins) -> None:
    home, other = origins.http(), origins.http("127.0.0.2")
    bound = Profile(name="bound", token="s3cret", origins=(home.base,))
    file, same, strange = home.serves(b"x"), home.serves(b"x", name="s"), other.serves(b"x", name="o")
    with Session(bound) as session:
        assert session.get(file.url).ok
        with pytest.raises(SpecError, match=rf"the profile 'bound' is for {home.base} alone, and not for {other.base}"):
            session.get(strange.url)
    assert other.hits == 0
    with Pool(2, session=Session(bound), retries=0, profiles={"bound": bound}) as pool:
        mine, theirs, wrong = pool.map(
            [
                Spec(same.url),
                Spec(strange.url),
                Spec(Source(other.serves(b"x", name="w").url, profile="bound")),
            ]
        )
        for outcome in (mine, theirs):
            outcome.raise_for_error().location.close()
    assert same.request.header("Authorization") == "Bearer s3cret"
    assert strange.request.header("Authorization") is None
    assert isinstance(wrong.error, SpecError)
    assert other.hits == 1


def test_a_spec_falls_back_to_a_mirror_without_the_profile_that_is_not_for_it(origins: Origins) -> None:
    home, other = origins.http(), origins.http("127.0.0.2")
    down, there = home.serves(status=503), other.serves(b"x")
    spec = Spec(sources=[down.url, Source(there.url, 1)], profile="bound", path="f")
    bound = Profile(token="s3cret", origins=(home.base,))
    with Pool(1, retries=0, profiles={"bound": bound}) as pool:
        (outcome,) = pool.map([spec])
        outcome.raise_for_error().location.close()
    assert down.request.header("Authorization") == "Bearer s3cret"
    assert there.request.header("Authorization") is None


def test_a_redirect_within_the_bounds_crosses_no_origin_either(origins: Origins) -> None:
    home, other = origins.http(), origins.http("127.0.0.2")
    file = other.serves(b"x")
    bound = Profile(token="s3cret", query={"sig": "s3cret"}, origins=(home.base,))
    assert Session(bound).get(home.redirects(file).url).content == b"x"
    with geofetch.fetch(home.redirects(file).url, profile=bound).location as fetched:
        assert fetched.read() == b"x"
    assert file.hits == 2
    for request in file.requests:
        assert request.header("Authorization") is None
        assert "s3cret" not in request.target


def test_digest_auth_of_a_source_of_its_own_is_asked_with(mirror: Mirror) -> None:
    # requests' digest auth has no hash, which Sessions by profile once stumbled over.
    file = mirror.serves(b"x")
    profile = Profile(auth=HTTPDigestAuth("me", "x"))
    with Pool(2) as pool:
        for outcome in pool.map([Spec(Source(file.url, profile=profile), path=name) for name in "ab"]):
            outcome.raise_for_error().location.close()


# ------------------------------------------------------------------------------------------------ content sources


def test_alternates_come_first_by_priority_and_only_for_what_can_be_proven() -> None:
    near = ContentSource("near", ("https://near.example/a", "https://near.example/b/"), 0, 2, "near")
    far, off = (
        ContentSource("far", ("https://far.example/",), 7),
        ContentSource("off", ("https://off/",), enabled=False),
    )
    spec = Spec("https://home.example/pool/a b.rpm", path="pool/a b.rpm", digests="sha256:" + "0" * 64, profile="home")
    found = with_alternates(spec, [far, near, off], "stranger")
    assert [(one.url, one.priority, one.weight, one.profile) for one in found.sources] == [
        ("https://far.example/pool/a%20b.rpm", 7, 1, "stranger"),
        ("https://near.example/a/pool/a%20b.rpm", 0, 2, "near"),
        ("https://near.example/b/pool/a%20b.rpm", 0, 2, "near"),
        ("https://home.example/pool/a b.rpm", 8, 1, None),
    ]
    assert (found.path, found.digests, found.profile) == (spec.path, spec.digests, "home")
    unproven = Spec("https://home.example/a", size=1)
    assert with_alternates(unproven, [near]) is unproven
    assert with_alternates(spec, [off]) is spec


CONF = """
[one]
enabled: 1
type: yum
name: The first
base_url: https://one.example:8443/pub/
paths: fedora/20/ /fedora/21
       fedora/22/
priority: 0
expires: 24h
max_concurrent: 4
ssl_ca_cert: ca.pem
ssl_client_cert: /etc/pki/client.pem
ssl_client_key: /etc/pki/client.key
proxy_url: http://proxy.example
proxy_port: 3128
proxy_username: us
proxy_password: p@ss/w:1%(x)s
basic_auth_username: me
basic_auth_password: env:PULP_PASSWORD
headers: X-Team=mirrors X-Token=a=b
         X-Words=several words here

[two]
enabled: false
type: yum
base_url: http://two.example/
priority: 10
ssl_validation: false
ssl_ca_cert: ca.pem

[three]
enabled: true
type: yum
base_url: http://three.example/x
"""


@pytest.mark.parametrize("url", ["https://h.example/x/?token=s3cret", "https://h.example/x/#s3cret"])
def test_a_content_source_has_no_query_that_would_be_lost(url: str) -> None:
    # Each file's URL is made anew below it: what stands behind the path would be left out without a word.
    with pytest.raises(SpecError, match="has a query or a fragment; a profile's query") as caught:
        ContentSource("near", (url,))
    assert "s3cret" not in str(caught.value)


def test_pulps_files_are_imported_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text(CONF)
    (tmp_path / "b.conf").write_text("[four]\nbase_url: file:///srv/mirror/\npriority: -1\n")
    (tmp_path / "c.conf.rpmsave").write_text("no INI")
    one, two, three, four = read_conf(tmp_path)
    assert one.source == ContentSource(
        "one", tuple(f"https://one.example:8443/pub/fedora/{n}/" for n in (20, 21, 22)), 0, 1, "one"
    )
    assert one.profile == Profile(
        name="one",
        origins=("https://one.example:8443",),
        ca=str(tmp_path / "ca.pem"),
        cert=("/etc/pki/client.pem", "/etc/pki/client.key"),
        proxies="http://proxy.example:3128",
        proxy_auth=("us", "p@ss/w:1%(x)s"),
        auth=("me", Secret("env:PULP_PASSWORD")),
        headers=(("X-Team", "mirrors"), ("X-Token", "a=b"), ("X-Words", "several words here")),
    )
    assert one.left_out == tuple(f"{key} has no counterpart here" for key in ("type", "expires", "max_concurrent"))
    assert two.source == ContentSource("two", ("http://two.example/",), 10, 1, "two", enabled=False)
    assert two.profile == Profile(name="two", origins=("http://two.example:80",), verify=False)
    assert (three.source, three.profile) == (ContentSource("three", ("http://three.example/x/",)), None)
    assert four.source == ContentSource("four", ("file:///srv/mirror/",))


PULP_WRONGLY = {
    "no INI": ("s3cret\n", "a.conf is no INI file: something stands before the first"),
    "a line that is none": ("[a]\nbase_url: http://a/\ns3cret\n", r"a.conf is no INI file: a line cannot be read"),
    "twice": ("[a]\nbase_url: http://a/\n[a]\n", r"a section is there twice \(line 3\)"),
    "no URL": ("[a]\ntype: yum\n", r"a.conf: \[a\] base_url: it is missing"),
    "no URL that can be meant": (
        "[a]\nbase_url: nowhere\nheaders: A=b\n",
        r"^[^:]*a.conf: \[a\] base_url: bad URL 'nowhere/'",
    ),
    "no priority": (
        "[a]\nbase_url: http://a/\npriority: first\n",
        r"^[^:]*a.conf: \[a\] priority: a whole number [^:]*$",
    ),
    "no flag": ("[a]\nbase_url: http://a/\nenabled: perhaps\n", r"^[^:]*a.conf: \[a\] enabled: true or false [^:]*$"),
    "half of a pair": (
        "[a]\nbase_url: http://a/\nbasic_auth_password: s3cret\n",
        r"\[a\] basic_auth_username: it is mis",
    ),
    "proxy's name without proxy": ("[a]\nbase_url: http://a/\nproxy_port: 1\n", r"\[a\] proxy_url: it is missing"),
    "headers": ("[a]\nbase_url: http://a/\nheaders: s3cret\n", r"\[a\] headers: NAME=VALUE is wanted"),
}


@pytest.mark.parametrize(("text", "words"), PULP_WRONGLY.values(), ids=list(PULP_WRONGLY))
def test_what_cannot_be_imported_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.conf").write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        list(read_conf(tmp_path / "a.conf"))
    assert "s3cret" not in str(caught.value)


def test_the_key_of_a_certificate_is_opened_by_a_secret(mutual: Mirror, ca: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    alice = ca.client("alice")
    key = serialization.load_pem_private_key(alice.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    profile = Profile(
        ca=ca.pem,
        cert=(str(alice.cert), Secret(lambda: locked.decode())),
        key_password=Secret(lambda: "s3cret"),
    )
    assert Session(profile).get(mutual.serves(b"x").url).content == b"x"
    assert [one.client for one in mutual.connections] == ["alice"]


WITHOUT = """
import sys
for name in ("tomlkit", "cryptography", "keyring"):
    sys.modules[name] = None  # as if it were not installed
import geofetch
from geofetch import Profile, Profiles, Secret, Session, SpecError
def said(call):
    try:
        call()
    except SpecError as error:
        print(error)
kept = Profiles.load("profiles.toml")
said(lambda: Session(Profile(token=Secret("keyring:a/b"))))
said(lambda: Session(kept["a"]))
kept.add(Profile(name="b"))
said(kept.save)
"""


def test_what_an_extra_brings_is_named_where_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('[fernet]\nkeys=["env:PATH"]\n[profiles.a]\ntoken="fernet:gA"\n')
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "the profile: its token: keyring:a/b wants the package keyring: pip install geofetch[keyring]",
        "the profile 'a': its token: fernet:… wants the package cryptography: pip install geofetch[profiles]",
        "writing profiles wants the package tomlkit: pip install geofetch[profiles]",
    ]


def test_every_key_stands_in_the_document() -> None:
    told = documents.rows((ROOT / "docs/howto/kept_profiles.rst").read_text(encoding="utf-8"), "profile-keys")
    named = {word for row in told for cell in row for word in re.findall(r"``(\w+)", cell)}
    assert set(KEYS) <= named
