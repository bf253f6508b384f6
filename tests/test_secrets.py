"""Canaries: secrets of every kind go out to servers and proxies, and into nothing that anybody can read afterwards.

Every download, good or failing, is listened to with all ears there are: loggers at DEBUG, progress in every form,
records to the last byte, unit files, reprs, errors with all their causes.  A control shows that the ears are open and
that the secrets were really used.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from requests.auth import HTTPDigestAuth

import geofetch
from geofetch.errors import FetchError, SpecError
from geofetch.events import Outcome
from geofetch.pool import Pool
from geofetch.records import Recorder, unit_files
from geofetch.report import JsonLines, Plain, Report
from geofetch.session import Session
from geofetch.spec import Profile, Source, Spec
from geofetch.store import FileStore
from tests.origin.content import made
from tests.origin.scenes import Scene
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.process import ROOT
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import trusting
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests

#: Where each secret comes from; each has letters of its own, so that a leak tells its way.
CANARIES = {
    where: f"canary{where}5f3a"
    for where in ("userinfo", "query", "header", "proxy", "auth", "password", "netrc", "cookie", "params")
}
USERS = ("user", "proxyuser", "netrcuser")
#: A value that is no secret: masked in what is shown, kept in records, since a repair needs it.
HARMLESS = "version4711"

FILE = made(1000, "secrets")


def forms(secret: str) -> Iterator[str]:
    """The secret as it is, and as it travels."""
    yield secret
    for user in USERS:
        encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
        yield encoded
        yield quote(encoded)


def leaks(text: str) -> list[str]:
    """The secrets that can be read in a text."""
    return sorted({where for where, secret in CANARIES.items() for form in forms(secret) if form in text})


def url_of(url: str, query: bool = True, userinfo: bool = True) -> str:
    """The URL with secrets in it."""
    scheme, _, rest = url.partition("://")
    name = f"user:{CANARIES['userinfo']}@" if userinfo else ""
    return f"{scheme}://{name}{rest}" + (f"?token={CANARIES['query']}&v={HARMLESS}" if query else "")


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything that any logger said, with every traceback."""
    caplog.set_level(logging.DEBUG)
    for name in ("geofetch", "urllib3", "urllib3.connectionpool", "urllib3.util.retry", "requests", "peewee"):
        caplog.set_level(logging.DEBUG, name)
    form = logging.Formatter("%(name)s %(levelname)s %(message)s")
    return lambda: "\n".join(form.format(record) + repr(record.args) for record in caplog.records)


def shown(error: BaseException) -> str:
    """All that a program shows of an error: itself, its causes, its notes, its answer, each as str and repr."""
    told = ["".join(traceback.format_exception(error)), str(error), repr(error), repr(getattr(error, "args", ()))]
    each: BaseException | None = error
    for _ in range(20):
        if each is None:
            break
        told += [str(each), repr(each), *getattr(each, "__notes__", ())]
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    assert each is None, told[:9]
    response = getattr(error, "response", None)
    if response is not None:
        told += [repr(response), str(response.url), repr(dict(response.headers)), response.text]
    told += [str(getattr(error, "url", "")), repr(getattr(error, "source", "")), repr(getattr(error, "spec", ""))]
    return "\n".join(told)


@dataclass
class Ears:
    """A pool with everything that listens, and what they heard."""

    folder: Path
    words: list[str] = field(default_factory=list)

    def fetch(self, spec: Spec, **how: Any) -> Outcome:
        """The Outcome of one spec; all that was said of it is in ``words``."""
        json_lines, plain, tallies = io.StringIO(), io.StringIO(), []

        def sink(tally: Any) -> None:
            JsonLines(json_lines, 0.0)(tally)
            Plain(plain, 0.0)(tally)
            tallies.append(repr(tally))

        store, recorder = FileStore(self.folder / "store"), Recorder(f"sqlite:///{self.folder}/units.db")
        try:
            with Pool(
                2, **{"store": store, "recorder": recorder, "progress": Report(sink), "retries": 1, "timeout": 5, **how}
            ) as pool:
                job = pool.spawn(spec)
                self.words += [repr(job), str(job)]
                outcome = job.get(timeout=30)
                self.words += [
                    repr(pool),
                    str(pool),
                    repr(job),
                    repr(vars(pool)),
                    repr([getattr(job, name) for name in job.__slots__]),
                ]
            units = list(recorder.units())
            self.words += [repr(recorder), repr(store), *map(repr, units), *map(unit_files.dumps, units)]
            unit_files.write(units, self.folder / "exported")
        finally:
            recorder.close()
            store.close()
        self.words += [json_lines.getvalue(), plain.getvalue(), *tallies]
        self.words += [repr(outcome), str(outcome), *map(repr, outcome.attempts), repr(spec), repr(spec.sources)]
        if outcome.error is not None:
            self.words.append(shown(outcome.error))
        return outcome

    def read(self) -> str:
        """Every word, and every byte of every file: the database, its journal, unit files, names."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        contents = [path.read_bytes().decode("latin-1") for path in files if path.read_bytes() != FILE]
        return "\n".join([*self.words, *map(str, files), *contents])


@pytest.fixture
def ears(tmp_path: Path) -> Ears:
    return Ears(tmp_path / "ears")


@pytest.fixture
def profile(origins: Origins, ca: Authority) -> dict[str, Any]:
    """What a Profile is made of, with a secret in every part of it."""
    return {
        "ca": ca.pem,
        "headers": {"X-Api-Key": CANARIES["header"], "Cookie": f"session={CANARIES['cookie']}"},
        "auth": ("user", CANARIES["auth"]),
        "key_password": CANARIES["password"],
    }


Kind = Callable[[Origins, Mirror, dict[str, Any]], "tuple[str, dict[str, Any], dict[str, Any]]"]
KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Kind], Kind]:
    def add(made: Kind) -> Kind:
        KINDS[name] = made
        return made

    return add


def scene(name: str, **how: Any) -> None:
    """A download of one scene."""
    KINDS[name] = lambda origins, mirror, profile: (mirror.serves(**how).url, {}, {})


def place(name: str, url: Callable[[Origins], str]) -> None:
    """A download from a port that is wrong by itself."""
    KINDS[name] = lambda origins, mirror, profile: (url(origins), {}, {})


def altered(name: str, alter: Callable[[Origins], dict[str, Any]]) -> None:
    """A download whose profile is another one."""
    KINDS[name] = lambda origins, mirror, profile: (mirror.serves(FILE).url, alter(origins), {})


scene("stored", body=FILE)
scene("stored, no length", body=FILE, announce=None)
for _status in (401, 403, 404, 407, 410, 429, 500, 503):
    scene(f"status {_status}", status=_status, body=b"no", headers={"WWW-Authenticate": "Basic"})
scene("truncated", body=FILE, cut=500)
scene("reset", body=FILE, reset=500)
scene("reset before the answer", reset="head")
scene("closed before the answer", cut="head")
scene("two lengths", body=FILE, announce=(1, 2))
scene("encoded", body=FILE, gzip=True)
scene("header without a colon", status=200, headers={"X\nnonsense": "x"}, then="close")
scene("redirect to a file", status=302, headers={"Location": "file:///etc/passwd?token=" + CANARIES["query"]})
scene("redirect with userinfo", status=302, headers={"Location": f"ftp://user:{CANARIES['userinfo']}@h/x"})
scene("redirect to no URL", status=302, headers={"Location": f"http://user:{CANARIES['userinfo']}@[::1/x"})
scene("redirect to no port", status=302, headers={"Location": f"http://h:{CANARIES['userinfo']}@h/x"})
scene("redirect to nowhere", status=302)
place("refused", lambda origins: origins.refusing().source.url)
place("no such name", lambda origins: "http://nowhere.invalid/file")
place("resetting", lambda origins: origins.resetting().source.url)
place("hanging up", lambda origins: origins.hanging_up().source.url)
place("untrusted", lambda origins: origins.https(names=("elsewhere.test",)).source.url)
place("http where https is asked", lambda origins: origins.https(greets=["garbage"]).source.url)
place("a host that is none", lambda origins: "http://ho<st/file")
place("no such file", lambda origins: "file:///no/such/file")
altered("through a proxy", lambda origins: {"proxies": secret_proxy(origins.proxy().url)})
altered("proxy refuses", lambda origins: {"proxies": secret_proxy(origins.refusing().url)})
altered("proxy wants others", lambda origins: {"proxies": secret_proxy(origins.proxy(auth=("a", "b")).url)})
altered("proxy without a name", lambda origins: {"proxies": secret_proxy("http://nowhere.invalid:1")})
altered("header that cannot be sent", lambda origins: {"headers": {"X-Api-Key": " " + CANARIES["header"]}})
altered("header in another script", lambda origins: {"headers": {"X-Api-Key": CANARIES["header"] + "ł"}})
altered("auth in another script", lambda origins: {"auth": ("user", CANARIES["auth"] + "ł")})
altered("digest auth", lambda origins: {"auth": HTTPDigestAuth("user", CANARIES["auth"])})


@kind("digest auth refused")
def _digest(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    challenge = {"WWW-Authenticate": 'Digest realm="here", nonce="abc", qop="auth"'}
    file = mirror.serves(b"no", status=401, headers=challenge)
    return file.url, {"auth": HTTPDigestAuth("user", CANARIES["auth"])}, {}


def secret_proxy(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://proxyuser:{CANARIES['proxy']}@{rest}"


@kind("silent")
def _silent(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return origins.silent().source.url, {}, {"timeout": 0.05, "retries": 0}


@kind("stalls")
def _stalls(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.serves(FILE, stall=500).url, {}, {"timeout": 0.05, "retries": 0}


@kind("too late")
def _late(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.serves(FILE, stall=500).url, {}, {"deadline": 0.05}


@kind("redirected")
def _redirected(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.redirects(url_of(origins.http().serves(FILE).url)).url, {}, {}


@kind("redirected in circles")
def _circles(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.loops().url, {}, {}


@kind("no tunnel")
def _no_tunnel(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return origins.https().url, {"proxies": secret_proxy(origins.proxy(connect=403).url)}, {}


@kind("tunnel that wants others")
def _other_tunnel(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return origins.https().url, {"proxies": secret_proxy(origins.proxy(auth=("a", "b")).url)}, {}


@kind("through a tunnel")
def _tunnel(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return origins.https().serves(FILE).url, {"proxies": secret_proxy(origins.proxy(tls=True).url)}, {}


@kind("hook that raises")
def _hook(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    def refuse(attempt: Any, head: Any) -> None:
        raise LookupError(f"{attempt!r} {head.url} {attempt.source} {attempt.spec!r}")

    return mirror.serves(FILE).url, {}, {"hooks": {"headers": refuse}}


@kind("observer that raises")
def _observer(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    def break_down(*about: Any) -> None:
        raise LookupError(f"{about!r}")

    return (
        mirror.serves(FILE).url,
        {},
        {"hooks": {"planned": break_down, "started": break_down, "finished": break_down}},
    )


@kind("another digest")
def _digest_mismatch(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.serves(FILE).url, {}, {"spec": {"digests": "sha256:" + "0" * 64}}


@kind("another size")
def _size(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return mirror.serves(FILE).url, {}, {"spec": {"size": 7}}


@kind("wrong key password")
def _locked(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    key = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    return origins.https().serves(FILE).url, {"cert": key}, {}


@kind("pin that does not match")
def _pin(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    return origins.https().serves(FILE).url, {"fingerprint": "0" * 64}, {}


@kind("several sources")
def _several(origins: Origins, mirror: Mirror, profile: dict[str, Any]) -> Any:
    more = [url_of(origins.refusing().source.url), url_of(mirror.serves(status=404).url)]
    return mirror.serves(FILE, cut=10).url, {}, {"spec": {"sources": more}}


@pytest.mark.parametrize("name", KINDS)
def test_no_secret_is_told_of_a_download(
    origins: Origins,
    mirror: Mirror,
    ca: Authority,
    ears: Ears,
    profile: dict[str, Any],
    heard: Callable[[], str],
    name: str,
) -> None:
    url, changes, how = KINDS[name](origins, mirror, profile)
    more = how.pop("spec", {})
    spec = Spec(
        url_of(url, userinfo=not url.startswith("file:")),
        path="file",
        profile=Profile(**{**profile, **changes}),
        **{**more, "sources": [*more.get("sources", ())]},
    )
    outcome = ears.fetch(spec, **how)
    told = ears.read() + heard()
    assert leaks(told) == []
    assert "127.0.0.1" in told or outcome.state == "failed"  # the ears are open
    assert spec.source.shown in told


def _bad_proxies() -> list[str]:
    wrong = ["ftp://127.0.0.1:1", "http://", "http://127.0.0.1:99999", "http://[::1"]
    return [*map(secret_proxy, wrong), f"proxyuser:{CANARIES['proxy']}@127.0.0.1:99999"]


@pytest.mark.parametrize("proxy", _bad_proxies())
def test_a_proxy_that_cannot_be_is_refused_without_its_password(mirror: Mirror, proxy: str) -> None:
    url = mirror.serves(FILE).url
    session = Session()
    session.proxies = {"all": proxy}
    for refused in (lambda: Profile(proxies=proxy), lambda: geofetch.fetch(url, session=session, retries=0)):
        with pytest.raises(SpecError) as caught:
            refused()
        assert leaks("".join(traceback.format_exception(caught.value))) == []


def test_the_secrets_were_used(
    origins: Origins, mirror: Mirror, ears: Ears, profile: dict[str, Any], heard: Callable[[], str]
) -> None:
    """The control: server and proxy got every one of them; and ears that hear one say so."""
    way, file = origins.proxy(auth=("proxyuser", CANARIES["proxy"])), mirror.serves(FILE)
    outcome = ears.fetch(Spec(url_of(file.url), path="f", profile=Profile(**profile, proxies=way.url)))
    assert outcome.state == "stored"
    request = file.request
    sent = f"{request.target} {request.headers} {way.requests[0].headers}"
    assert leaks(sent) == ["auth", "cookie", "header", "proxy", "query"]
    assert leaks(ears.read() + heard()) == []
    logging.getLogger("geofetch").debug("this is %s", CANARIES["auth"])
    ears.words.append(CANARIES["query"])
    assert leaks(ears.read() + heard()) == ["auth", "query"]


def test_userinfo_is_used_where_no_profile_says_who_asks(mirror: Mirror, ears: Ears, heard: Callable[[], str]) -> None:
    file = mirror.serves(FILE)
    assert ears.fetch(Spec(url_of(file.url), path="f")).state == "stored"
    assert leaks(f"{file.request.headers} {file.request.target}") == ["query", "userinfo"]
    assert leaks(ears.read() + heard()) == []


@pytest.mark.parametrize("scene", [Scene(body=FILE), Scene(status=404), Scene(body=FILE, cut=10)])
def test_what_netrc_says_is_told_to_nobody_else(
    mirror: Mirror,
    ears: Ears,
    heard: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scene: Scene,
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login netrcuser password {CANARIES['netrc']}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    file = mirror.plays([scene])
    ears.fetch(Spec(url_of(file.url, userinfo=False), path="f"))
    assert leaks(f"{file.requests[0].headers}") == ["netrc"]
    assert leaks(ears.read() + heard()) == []


def test_the_environments_proxy_is_told_its_password_and_nobody_else(
    origins: Origins, mirror: Mirror, ears: Ears, heard: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    way = origins.proxy(auth=("proxyuser", CANARIES["proxy"]))
    for url in (way.url, secret_proxy(origins.refusing().url), secret_proxy("http://127.0.0.1:99999")):
        monkeypatch.setenv("http_proxy", url)
        ears.fetch(Spec(url_of(mirror.serves(FILE).url), path="f"), retries=0)
    assert "proxy" in leaks(f"{way.requests[0].headers}")
    assert leaks(ears.read() + heard()) == []


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        pytest.param(f"v={HARMLESS}", True, id="harmless"),
        pytest.param(f"v={HARMLESS}&token={CANARIES['query']}", False, id="token"),
        pytest.param(f"X-Amz-Signature={CANARIES['query']}&v={HARMLESS}", False, id="amazon"),
        pytest.param(f"sig={CANARIES['query']}&v={HARMLESS}", False, id="azure"),
        pytest.param(f"v={HARMLESS}&%74oken={CANARIES['query']}", False, id="percent-encoded-name"),
    ],
)
def test_a_query_is_masked_in_what_is_shown_and_kept_only_where_a_repair_needs_it(
    mirror: Mirror, ears: Ears, heard: Callable[[], str], query: str, kept: bool
) -> None:
    """DESIGN 6: values are masked everywhere; records and exports keep a query, unless it carries a token."""
    spec = Spec(f"{mirror.serves(FILE).url}?{query}", path="f")
    assert ears.fetch(spec).state == "stored"
    words = "\n".join(word for word in ears.words if '"schema"' not in word and not word.startswith("Unit("))
    # peewee's own logger tells what goes into the database, to those who ask for DEBUG.
    assert HARMLESS not in words + "".join(line for line in heard().splitlines() if not line.startswith("peewee"))
    exported = "".join(path.read_text() for path in (ears.folder / "exported").glob("*.json"))
    stored = (ears.folder / "units.db").read_bytes().decode("latin-1")
    assert (HARMLESS in exported, HARMLESS in stored) == (kept, kept)
    assert leaks(ears.read() + heard()) == []


def test_a_secret_query_by_declaration_is_in_no_record(mirror: Mirror, ears: Ears) -> None:
    source = Source(f"{mirror.serves(FILE).url}?v={HARMLESS}", secret_query=True)
    assert ears.fetch(Spec(source, path="f")).state == "stored"
    assert HARMLESS not in ears.read()


# ------------------------------------------------------------------------------------------------------------- by value


def test_values_show_no_secret(ca: Authority) -> None:
    session_profile = Profile(
        name="mine",
        headers={"X-Api-Key": CANARIES["header"]},
        auth=("user", CANARIES["auth"]),
        proxies=secret_proxy("http://127.0.0.1:1"),
        key_password=CANARIES["password"],
    )
    source = Source(url_of("http://127.0.0.1/x"), profile=session_profile)
    spec, session = Spec(source, profile=session_profile), Session(session_profile)
    adapter = session.get_adapter("http://127.0.0.1/")
    values = [session_profile, source, spec, session, adapter, Outcome("failed", spec), session.bare()]
    values += [geofetch.Attempt(spec, source), FetchError("so", spec=spec, source=source), [spec], {"a": source}]
    for value in values:
        assert leaks(f"{value} {value!r} {value:}") == []


def test_two_identities_show_no_secret(origins: Origins, ca: Authority) -> None:
    from geofetch.transport import pools, tls

    way = origins.proxy()
    Session(Profile(proxies=secret_proxy(way.url))).get(origins.http().serves(b"x").url)
    trust = tls.trust_of(Profile(ca=ca.pem, key_password=CANARIES["password"], auth=("user", CANARIES["auth"])))[0]
    managers = pools.shared()._managers
    assert leaks(f"{trust!r} {[repr(one) for one in managers.values()]}") == []


BAD_URLS = {
    "port": "http://user:{}@host:port/x",
    "bracket": "http://user:{}@[::1/x",
    "scheme": "ftp://user:{}@host/x?token={}",
    "space": " http://user:{}@host/x",
    "control": "http://user:{}@host/x\n",
    "no host": "http://user:{}@/x",
    "bad label": "http://user:{}@a..b/x?token={}",
    "file with a host": "file://user:{}@host/x?token={}",
}


@pytest.mark.parametrize("name", BAD_URLS)
def test_a_url_that_is_refused_is_told_without_its_secrets(name: str, tmp_path: Path, heard: Callable[[], str]) -> None:
    url = BAD_URLS[name].replace("{}", CANARIES["userinfo"], 1).replace("{}", CANARIES["query"])
    for call in (Source, Spec, lambda url: Spec({"source": url}), lambda url: geofetch.fetch(url, to=tmp_path / "f")):
        with pytest.raises(SpecError) as caught:
            call(url)
        assert leaks(shown(caught.value)) == []
    with Pool(1, progress=False) as pool, pytest.raises(SpecError) as caught:
        pool.map([url])
    assert leaks(shown(caught.value) + repr(caught.value.outcomes) + heard()) == []


# ------------------------------------------------------------------------------------------ calls of requests' own kind


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].__name__ == "<lambda>" and "file" not in name])
def test_no_secret_is_told_of_a_call(
    origins: Origins, mirror: Mirror, profile: dict[str, Any], heard: Callable[[], str], name: str
) -> None:
    """Session.get: its exceptions are requests' own, and they show no secret either."""
    url, changes, _ = KINDS[name](origins, mirror, profile)
    words = ""
    try:
        session = Session(Profile(**{**profile, **changes}))
        session.params = {"token": CANARIES["params"]}
        words = repr(session.get(url_of(url, query=False), timeout=5))
    except UnicodeEncodeError as exc:  # requests' own refusal of credentials that it cannot write; its repr quotes them
        words = "".join(traceback.format_exception(exc))
    except (requests.RequestException, ValueError) as exc:
        words = shown_by_requests(exc)
    assert leaks(words + heard()) == []


def shown_by_requests(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + str(error) + repr(error)


def test_a_warning_of_an_untrusted_server_tells_its_host_alone(
    secure: Mirror, heard: Callable[[], str], recwarn: pytest.WarningsRecorder
) -> None:
    url = url_of(secure.serves(b"x").url)
    assert trusting(url, Session(Profile(verify=False))).ok
    assert leaks(heard() + "".join(str(one.message) for one in recwarn)) == []


# ---------------------------------------------------------------------------------------------------------- the command


def command(*arguments: str, cwd: Path, **environment: str) -> str:
    """Everything that a command says, on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "geofetch", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", ["stored", "status 404", "proxy refuses"])
def test_the_command_tells_no_secret(
    origins: Origins, mirror: Mirror, ca: Authority, profile: dict[str, Any], tmp_path: Path, name: str
) -> None:
    url, changes, _ = KINDS[name](origins, mirror, profile)
    said = command(
        *("get", "--into", "there", "--json", "-vv", "--retries", "0", "--cacert", str(ca.path), url_of(url)),
        *(("--proxy", changes["proxies"]) if changes else ()),
        cwd=tmp_path,
        GEOFETCH_HEADERS=f"X-Api-Key: {CANARIES['header']}",
    )
    assert json.loads(said.strip().splitlines()[0])["event"] == "file", said
    said += command("units", "list", "--into", "there", "--json", cwd=tmp_path)
    said += command("units", "export", "--into", "there", "exported", cwd=tmp_path)
    said += command("verify", "--into", "there", "--json", cwd=tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() != FILE]
    kept = "".join(f"{path} {path.read_bytes().decode('latin-1')}" for path in files)
    assert leaks(said + kept) == []
