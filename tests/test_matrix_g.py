"""Corpus G of the fault matrix (names; E10 too), by every way they come in: a path, a URL, a manifest, a header.

One rule for all: a name is kept to the byte, or refused before any I/O.  Nothing is ever written outside of the store,
and no server has a word in what a file is called.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from geofetch.errors import SpecError
from geofetch.events import Outcome
from geofetch.manifest import read
from geofetch.pool import fetch
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.store import FileStore
from tests.support.apart import command
from tests.support.diary import sha256
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = b"the file"

#: Names that no file may have, and why.
REFUSED = [
    pytest.param("", "empty", id="empty"),
    pytest.param(".", "'.' or '..'", id="dot"),
    pytest.param("..", "'.' or '..'", id="dot-dot"),
    pytest.param("../", "'.' or '..'", id="up-and-a-slash"),
    pytest.param("../file", "'.' or '..'", id="up"),
    pytest.param("../../file", "'.' or '..'", id="up-twice"),
    pytest.param("../../../../../../../../etc/passwd", "'.' or '..'", id="up-to-the-root"),
    pytest.param("dir/../../file", "'.' or '..'", id="down-and-up"),
    pytest.param("dir/..", "'.' or '..'", id="down-and-up-again"),
    pytest.param("dir//file", "'.' or '..'", id="two-slashes"),
    pytest.param("dir/", "'.' or '..'", id="slash-at-the-end"),
    pytest.param("/", "absolute", id="slash"),
    pytest.param("/etc/passwd", "absolute", id="absolute"),
    pytest.param("//etc/passwd", "absolute", id="two-slashes-first"),
    pytest.param("..\\file", "'.' or '..'", id="up-on-windows"),
    pytest.param("dir\\..\\..\\file", "'.' or '..'", id="down-and-up-on-windows"),
    pytest.param("C:\\x", "absolute on Windows", id="drive"),
    pytest.param("C:/x", "absolute on Windows", id="drive-and-slash"),
    pytest.param("\\\\host\\share\\x", "absolute on Windows", id="unc"),
    pytest.param("a\0b", "NUL", id="nul"),
    pytest.param("a\nb", "control", id="line-feed"),
    pytest.param("a\rb", "control", id="carriage-return"),
    pytest.param("a\x1b[31mb", "control", id="escape"),
    pytest.param("a\x7fb", "control", id="delete"),
    pytest.param("a\udcffb", "UTF-8", id="lone-surrogate"),
    pytest.param("n" * 256, "255 bytes", id="256-bytes"),
    pytest.param("\U0001f4e6" * 64, "255 bytes", id="64-letters-of-4-bytes"),
    pytest.param("\U0001f4e6" * 255, "255 bytes", id="255-letters-of-4-bytes"),
    pytest.param("/".join(["d" * 100] * 41), "4095 bytes", id="4140-bytes-in-all"),
    pytest.param(".geofetch/units.db", "geofetch", id="our-records"),
    pytest.param(".part-0123", "part files", id="our-parts"),
    pytest.param("dir/.part-x/file", "part files", id="a-folder-like-our-parts"),
]

#: Names that look dangerous, and are names.
KEPT = [
    pytest.param("n" * 255, id="255-bytes"),
    pytest.param("\U0001f4e6" * 63, id="63-letters-of-4-bytes"),
    pytest.param("..%2f..%2fetc%2fpasswd", id="percent-encoded-once"),
    pytest.param("%2e%2e", id="percent-encoded-dots"),
    pytest.param("%252e%252e%252f", id="percent-encoded-twice"),
    pytest.param("a%00b", id="percent-encoded-nul"),
    pytest.param("libfoo_1%3a2.deb", id="percent-encoded-colon"),
    pytest.param("100%", id="lone-percent"),
    pytest.param("CON", id="device-on-windows"),
    pytest.param("NUL", id="nul-on-windows"),
    pytest.param(".bashrc", id="hidden"),
    pytest.param("...", id="three-dots"),
    pytest.param("-rf", id="option"),
    pytest.param("--help", id="long-option"),
    pytest.param("~", id="home"),
    pytest.param("~root", id="home-of-root"),
    pytest.param("$(id)", id="shell"),
    pytest.param("`id`;id|id&id", id="more-shell"),
    pytest.param("*?[a]{b}", id="globs"),
    pytest.param("name.part", id="another-programs-part"),
    pytest.param("x\u202egpj.exe", id="right-to-left"),
    pytest.param("a\u200bb", id="zero-width"),
    pytest.param("trailing.", id="trailing-dot"),
    pytest.param("dir\\file", id="backslash"),
    pytest.param("a:b", id="colon"),
    pytest.param('a"b', id="quote"),
    pytest.param("a?b#c&d=e", id="query-and-fragment"),
    pytest.param("a;b,c", id="parameters"),
    pytest.param("\u00e9", id="composed"),
    pytest.param("e\u0301", id="decomposed"),
    pytest.param("name=a; filename=b", id="two-parameters"),
    pytest.param("=?utf-8?B?Li4vYQ==?=", id="rfc-2047"),
    pytest.param("UTF-8''%2e%2e%2fx", id="rfc-5987"),
]


@pytest.fixture
def only(tmp_path: Path) -> Callable[[dict[str, bytes]], None]:
    """Says what is below the test's folder, to the byte of each name; nothing else is there, nor beside the store."""

    def check(expected: dict[str, bytes]) -> None:
        found = {
            os.path.relpath(os.path.join(folder, name), tmp_path): Path(folder, name).read_bytes()
            for folder, _, names in os.walk(tmp_path)
            for name in names
        }
        assert {os.fsencode(name): body for name, body in found.items()} == {
            os.fsencode(f"store/{name}"): body for name, body in expected.items()
        }

    return check


def stored(root: Path, spec: Spec) -> Outcome:
    """The Outcome of one spec in a store with records, which know it by the same name."""
    store = FileStore(root / "store")
    with Recorder("sqlite:///:memory:") as recorder:
        with pooled(store=store, recorder=recorder) as pool:
            (outcome,) = pool.map([spec])
        assert [(unit.path, unit.store_key, unit.size) for unit in recorder.units()] == [
            (spec.path, spec.path, len(BODY))
        ]
    store.close()
    assert outcome.state == "stored", outcome.error
    assert outcome.location == root / "store" / spec.path
    return outcome


# ------------------------------------------------------------------------------------------------------- a Spec's path


@pytest.mark.parametrize(("name", "why"), REFUSED)
def test_a_path_that_may_not_be_is_refused_before_any_io(
    mirror: Mirror, tmp_path: Path, only: Callable[[dict[str, bytes]], None], name: str, why: str
) -> None:
    source = mirror.serves(BODY)
    with pytest.raises(SpecError, match=why.replace(".", r"\.")):
        Spec(source.url, path=name)
    good = Spec(source.url)
    with pooled(store=FileStore(tmp_path / "store")) as pool, pytest.raises(SpecError, match=why.replace(".", r"\.")):
        pool.map([good, {"source": source.url, "path": name}])
    assert mirror.accepted == 0
    only({})


@pytest.mark.parametrize("name", KEPT)
def test_a_path_is_kept_to_the_byte(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, only: Callable[[dict[str, bytes]], None], name: str
) -> None:
    stored(tmp_path, Spec(mirror.serves(BODY).url, path=name))
    only({name: BODY})


# ---------------------------------------------------------------------------------------------------------------- a URL

#: Ends of URLs as they are written, and the name that each gives, None: refused.
IN_URLS = [
    pytest.param("plain", "plain", id="plain"),
    pytest.param("", "index.html", id="nothing"),
    pytest.param("..%2f..%2fetc%2fpasswd", None, id="up"),
    pytest.param("%2e%2e", None, id="dots"),
    pytest.param("%2E%2e%2F", None, id="dots-and-a-slash"),
    pytest.param("%2e", None, id="dot"),
    pytest.param("%2fetc%2fpasswd", None, id="absolute"),
    pytest.param("dir%2f..%2f..%2ffile", None, id="down-and-up"),
    pytest.param("..%5cfile", None, id="up-on-windows"),
    pytest.param("C:%5cx", None, id="drive"),
    pytest.param("a%00b", None, id="nul"),
    pytest.param("a%0ab", None, id="line-feed"),
    pytest.param("a%0d%0aX-Evil:%20b", None, id="header"),
    pytest.param("a%ffb", None, id="not-utf-8"),
    pytest.param("a%c0%aeb", None, id="overlong-dot"),
    pytest.param("n" * 256, None, id="256-bytes"),
    pytest.param("%f0%9f%93%a6" * 64, None, id="64-letters-of-4-bytes"),
    pytest.param(".part-x", None, id="our-parts"),
    pytest.param("%2epart-x", None, id="our-parts-encoded"),
    pytest.param("%2egeofetch", None, id="our-folder"),
    pytest.param("%252e%252e%252f", "%2e%2e%2f", id="encoded-twice"),
    pytest.param("libfoo_1%253a2.deb", "libfoo_1%3a2.deb", id="a-percent-in-it"),
    pytest.param("100%", "100%", id="lone-percent"),
    pytest.param("a%20b", "a b", id="space"),
    pytest.param("a+b", "a+b", id="plus"),
    pytest.param("%c3%a9", "\u00e9", id="composed"),
    pytest.param("-rf", "-rf", id="option"),
    pytest.param("%24(id)", "$(id)", id="shell"),
    pytest.param("x%e2%80%aegpj.exe", "x\u202egpj.exe", id="right-to-left"),
    pytest.param("a?name=../../b", "a", id="query"),
    pytest.param("a?/../../b", "a", id="slashes-in-a-query"),
    pytest.param("a#/../b", "a", id="fragment"),
    pytest.param("a;type=i", "a;type=i", id="parameters"),
]


@pytest.mark.parametrize(("end", "name"), IN_URLS)
def test_the_name_in_a_url_is_decoded_once_and_kept_or_refused(
    mirror: Mirror,
    tmp_path: Path,
    spotless: Leftovers,
    only: Callable[[dict[str, bytes]], None],
    end: str,
    name: str | None,
) -> None:
    url = f"{mirror.base}/pool/{end}"
    handle = mirror.serves(BODY, at=_as_sent(url))
    into = f"{tmp_path / 'store'}/"
    if name is None:
        with pytest.raises(SpecError, match="unsafe the name in "):
            fetch(url, to=into)
        assert mirror.accepted == 0
        only({})
        return
    assert fetch(url, to=into).location == tmp_path / "store" / name
    assert handle.hits == 1
    only({name: BODY})


def _as_sent(url: str) -> str:
    """The path as requests writes it: what needs no encoding is decoded, and "/../" is gone."""
    sent = requests.Request("GET", url).prepare().url
    assert isinstance(sent, str)
    return urlsplit(sent).path


# ---------------------------------------------------------------------------------------------------------- a manifest


def _escaped(name: str) -> str:
    """A line of sha256sum's; it escapes what would end the line."""
    plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return ("\\" if plain != name else "") + f"{hashlib.sha256(BODY).hexdigest()}  {plain}\n"


def _bsd(name: str) -> str:
    return f"SHA256 ({name}) = {hashlib.sha256(BODY).hexdigest()}\n"


def _json(name: str) -> str:
    return json.dumps({"source": name, "digests": sha256(BODY)}) + "\n"


def _json_path(name: str) -> str:
    return json.dumps({"source": "plain", "path": name, "digests": sha256(BODY)}) + "\n"


def _pulp(name: str) -> str:
    return f"{name},{hashlib.sha256(BODY).hexdigest()},{len(BODY)}\n"


MANIFESTS = {"checksums": _escaped, "checksums-bsd": _bsd, "jsonl": _json, "jsonl-path": _json_path, "pulp": _pulp}


def _cannot_say(form: str, name: str) -> bool:
    """Whether this form has no way to write this name: what it then says is a line of something else."""
    line = form == "pulp" and ("," in name or '"' in name)
    return line or (form in ("checksums-bsd", "pulp") and any(letter in name for letter in "\n\r"))


@pytest.mark.parametrize("form", MANIFESTS)
@pytest.mark.parametrize(("name", "why"), REFUSED)
def test_a_manifest_with_a_name_that_may_not_be_is_refused_by_its_line(form: str, name: str, why: str) -> None:
    text = MANIFESTS[form]("good") + MANIFESTS[form](name)
    base = "http://127.0.0.1:9/pool/"
    found = []
    with pytest.raises(SpecError, match="line 2"):
        for spec in read(text.encode("utf-8", "surrogateescape"), base=base, format=form.partition("-")[0]):
            found.append(spec.path)
    assert found in ([], ["good"])


@pytest.mark.parametrize("form", MANIFESTS)
def test_names_in_a_manifest_are_encoded_once_to_be_asked_for_and_kept_to_the_byte(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, only: Callable[[dict[str, bytes]], None], form: str
) -> None:
    names = [str(one.values[0]) for one in KEPT if not _cannot_say(form, str(one.values[0]))]
    assert len(names) >= len(KEPT) - 2
    asked_for = ["plain" if form == "jsonl-path" else quote(name, safe="~!$&'()*+,;=:@") for name in names]
    handles = [mirror.serves(BODY, at=f"/pool/{end}") for end in asked_for]
    text = "".join(map(MANIFESTS[form], names)).encode()
    specs = list(read(text, base=f"{mirror.base}/pool/", format=form.partition("-")[0]))
    assert [spec.path for spec in specs] == names
    store = FileStore(tmp_path / "store")
    with pooled(store=store) as pool:
        outcomes = pool.map(specs)
    store.close()
    assert [(one.spec.path, one.state, one.verified) for one in outcomes] == [(n, "stored", "digest") for n in names]
    assert {handle.hits for handle in handles} == ({len(names)} if form == "jsonl-path" else {1})
    only(dict.fromkeys(names, BODY))


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/passwd", "..\\escape", "a\\..\\..\\escape", ".geofetch/units.db", "x/../../escape"]
)
def test_the_command_refuses_such_a_manifest_before_it_asks_for_a_file(
    mirror: Mirror, tmp_path: Path, only: Callable[[dict[str, bytes]], None], name: str
) -> None:
    tree = mirror.tree(3)
    manifest = mirror.serves((tree.sums + _escaped(name)).encode(), at=tree.base.removeprefix(mirror.base) + "SUMS")
    done = command(
        ["sync", manifest.url, "--into", tmp_path / "store", "--format", "checksums", "--algorithm", "sha256"]
    )
    assert done.returncode == 2, done.stderr
    assert "line 4" in done.stderr
    assert tree.hits == {}
    only({})


# ---------------------------------------------------------------------------------------- what a server would call it

HEADERS = [
    "attachment; filename=evil",
    "attachment; filename=../../evil",
    'attachment; filename="../../evil"',
    "attachment; filename=/etc/evil",
    "attachment; filename=a; filename=b",
    "attachment; filename*=UTF-8''%2e%2e%2fevil",
    "attachment; filename*=ISO-8859-1''evil",
    'attachment; filename="ev\\"il\\\\"',
    'attachment; filename="evil',
    "attachment; filename==?utf-8?B?Li4vZXZpbA==?=",
    "attachment; filename=\xe9vil",
    "inline; filename=.bashrc",
]


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_has_a_word_in_what_a_file_is_called(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, only: Callable[[dict[str, bytes]], None], header: str
) -> None:
    told = {"Content-Disposition": header, "Content-Location": "/evil", "X-Sendfile": "/etc/passwd"}
    handle = mirror.serves(BODY, headers=told, name="mine")
    assert fetch(handle.url, to=f"{tmp_path / 'store'}/").location == tmp_path / "store/mine"
    only({"mine": BODY})


@pytest.mark.parametrize("to", ["/evil", "/..%2f..%2fevil", "/.bashrc", "/%2e%2e", "/.part-x", "/"])
def test_no_redirect_has_a_word_in_what_a_file_is_called(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, only: Callable[[dict[str, bytes]], None], to: str
) -> None:
    target = mirror.serves(BODY, at=_as_sent(mirror.base + to))
    first = mirror.redirects(to, name="mine")
    assert fetch(first.url, to=f"{tmp_path / 'store'}/").location == tmp_path / "store/mine"
    assert target.hits == 1
    only({"mine": BODY})


def test_a_file_of_that_name_outside_the_store_is_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    victims = [tmp_path / "victim", tmp_path / "store/dir/victim"]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.write_bytes(b"mine")
    specs: list[Any] = [{"source": mirror.serves(BODY).url, "path": path} for path in ("dir/../victim", "../victim")]
    for spec in specs:
        with pooled(store=FileStore(tmp_path / "store")) as pool, pytest.raises(SpecError):
            pool.map([spec])
    assert [victim.read_bytes() for victim in victims] == [b"mine", b"mine"]
