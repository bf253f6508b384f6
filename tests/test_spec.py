"""What is wanted: any usual writing of it is understood, what cannot be is refused before any I/O."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofetch import names
from geofetch.errors import SpecError
from geofetch.spec import Digest, Profile, Source, Spec, digests

HEX = hashlib.sha256(b"x").hexdigest()
RAW = bytes.fromhex(HEX)
URL = "https://mirror.example/pool/a.rpm"

WRITINGS = {
    "colon": f"sha256:{HEX}",
    "equals": f"sha256={HEX}",
    "upper": f"SHA-256:{HEX.upper()}",
    "sri": f"sha256-{base64.b64encode(RAW).decode()}",
    "mapping": {"sha256": HEX},
    "mapping of base64": {"SHA256": base64.b64encode(RAW).decode()},
    "mapping of bytes": {"sha_256": RAW},
    "list": [f"sha256:{HEX}"],
    "value": Digest("sha256", RAW),
}


@pytest.mark.parametrize("written", WRITINGS.values(), ids=list(WRITINGS))
def test_a_digest_is_understood_in_any_usual_writing(written: object) -> None:
    assert Spec(URL, digests=written).digests == (Digest("sha256", RAW),)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(hashlib.algorithms_guaranteed))
def test_every_algorithm_of_hashlib_is_known(name: str) -> None:
    size = hashlib.new(name).digest_size or 32
    assert Digest.of(name.upper().replace("_", "-"), "ab" * size).algorithm == name


def test_a_shortened_blake2_is_its_own_algorithm() -> None:
    value = hashlib.blake2b(b"x", digest_size=32).hexdigest()
    digest = Digest.parse(f"BLAKE2b-256:{value}")
    hash_ = digest.new()
    hash_.update(b"x")
    assert (digest.algorithm, hash_.hexdigest()) == ("blake2b-256", value)


def test_several_digests_stay_several_and_doubled_ones_are_one() -> None:
    md5 = hashlib.md5(b"x").hexdigest()
    found = digests([f"sha256:{HEX}", {"md5": md5}, f"sha256:{HEX}"])  # type: ignore[list-item]
    assert [digest.algorithm for digest in found] == ["sha256", "md5"]


BAD_DIGESTS = {
    "too short": ("sha256:abcd", "64 hex digits are wanted"),
    "too long": (f"sha256:{HEX}00", "64 hex digits are wanted"),
    "no hex": ("sha256:" + "g" * 64, "neither hex nor base64"),
    "unknown": ("crc99:00", "unknown digest algorithm 'crc99'"),
    "bare": (HEX, "write ALGORITHM:HEX"),
    "empty value": ({"sha256": ""}, "64 hex digits are wanted"),
    "shake of a byte": ("shake_128:ab", "prove too little, 16 at least"),
    "blake2 of a byte": ("blake2b-8:ab", "prove too little, 16 at least"),
    "empty shake": ({"shake_256": ""}, "neither hex nor base64|prove too little"),
    "contradicting": ([f"sha256:{HEX}", "sha256:" + "0" * 64], "two different sha256"),
    "a number": (5, "not int"),
    "a number as value": ({"sha256": 5}, "text or bytes, not int"),
}


@pytest.mark.parametrize(("written", "words"), BAD_DIGESTS.values(), ids=list(BAD_DIGESTS))
def test_a_bad_digest_is_refused_with_its_reason(written: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Spec(URL, digests=written)  # type: ignore[arg-type]


BAD_URLS = {
    "empty": "",
    "no scheme": "mirror.example/a",
    "unknown scheme": "ftp://mirror.example/a",
    "gopher": "gopher://mirror.example/a",
    "no host": "http:///a",
    "empty label": "http://a..b/c",
    "long label": f"http://{'a' * 64}.example/c",
    "port": "http://mirror.example:99999/a",
    "port of words": "http://mirror.example:http/a",
    "broken v6": "http://[::1/a",
    "space around": " http://mirror.example/a",
    "line break": "http://mirror.example/a\r\nX: y",
    "nul": "http://mirror.example/a\0",
    "file on another host": "file://other/etc/passwd",
    "relative file": "file:a.rpm",
    "file with nul": "file:///a%00b",
}


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=list(BAD_URLS))
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="bad URL"):
        Spec(url)


def test_a_bad_url_is_refused_without_its_password() -> None:
    with pytest.raises(SpecError) as caught:
        Spec("http://user:hunter2@host:port/x?token=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@host/x",
        "http://user:hunter2/x@host/y",
        "http://user:hunter2@host:port/x?token=hunter2",
        "http://[hunter2@host/x",
        "hunter2@host",
        "ftp://user:hunter2@host/x#hunter2",
    ],
)
def test_what_is_no_url_is_shown_without_its_secret(url: str) -> None:
    with pytest.raises(SpecError) as caught:
        Spec(url)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_an_at_sign_in_a_path_is_no_userinfo() -> None:
    assert Source("https://h/@scope/pkg@1.2.tgz").shown == "https://h/@scope/pkg@1.2.tgz"


BAD_PATHS = {
    "a number": 5,
    "bytes": b"a.rpm",
    "absolute": "/etc/passwd",
    "parent": "../x",
    "parent inside": "a/../../x",
    "dot": "./x",
    "empty part": "a//x",
    "empty": "",
    "nul": "a\0b",
    "line break": "a\nb",
    "delete": "a\x7fb",
    "256 bytes": "a" * 256,
    "255 letters of four bytes": "\U0001f980" * 255,
    "long in all": "/".join(["a" * 200] * 30),
    "surrogate": "a\udcff",
    "windows parent": "a\\..\\b",
    "windows drive": "C:\\x",
    "unc": "\\\\host\\x",
    "ours": ".geofetch/units.db",
    "a part": "pool/.part-1234-a.rpm",
    "trailing slash": "a/",
}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=list(BAD_PATHS))
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="unsafe path"):
        Spec(URL, path=path)


@pytest.mark.parametrize(
    "path", ["a" * 255, "libfoo_1%3a2.deb", ".bashrc", "-rf", "~", "$(id)", "a b", "CON", "é/ü", "a\\b"]
)
def test_an_odd_path_that_harms_nobody_is_taken(path: str) -> None:
    assert Spec(URL, path=path).path == path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h/a.rpm", "a.rpm"),
        ("http://h/a.rpm?x=/b", "a.rpm"),
        ("http://h/", "index.html"),
        ("http://h", "index.html"),
        ("http://h/libfoo_1%253a2.deb", "libfoo_1%3a2.deb"),
        ("file:///srv/a%20b", "a b"),
    ],
)
def test_the_path_is_the_urls_last_name(url: str, path: str) -> None:
    assert Spec(url).path == path


@pytest.mark.parametrize(
    "url", ["http://h/..%2f..%2fetc%2fpasswd", "http://h/%2e%2e", "http://h/a%00b", "http://h/%0a"]
)
def test_a_url_cannot_smuggle_a_path(url: str) -> None:
    with pytest.raises(SpecError, match="the name in"):
        Spec(url)


@pytest.mark.parametrize("size", [-1, 1.5, "5", True])
def test_a_size_is_a_number_of_bytes(size: object) -> None:
    with pytest.raises(SpecError, match="size"):
        Spec(URL, size=size)  # type: ignore[arg-type]


def test_size_zero_is_a_size_and_none_is_not_told() -> None:
    assert (Spec(URL, size=0).size, Spec(URL).size) == (0, None)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({}, "needs a source"),
        ({"sources": "http://h/x"}, "sources is a list"),
        ({"source": 5}, "a source is a URL"),
        ({"source": URL, "unit": {"name": "bash"}}, "'type'"),
        ({"source": URL, "unit": {"type": "rpm", "x": object()}}, "plain JSON"),
        ({"source": URL, "repository": " "}, "repository is a name"),
        ({"source": URL, "profile": 5}, "profile is a Profile"),
        ({"source": {"url": URL, "prio": 1}}, "a source has no prio"),
        ({"source": {"url": URL, "priority": -1}}, "priority"),
        ({"source": {"url": URL, "weight": "much"}}, "weight"),
    ],
)
def test_what_contradicts_itself_is_refused(kwargs: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Spec(**kwargs)  # type: ignore[arg-type]


def test_a_spec_is_taken_from_text_mapping_and_itself() -> None:
    whole = Spec.of({"source": URL, "size": 3, "digests": f"sha256:{HEX}"})
    assert (whole.source.url, whole.size) == (URL, 3)
    assert Spec.of(whole) is whole
    assert Spec.of(URL) == Spec(URL)
    with pytest.raises(SpecError, match="a spec has no sise"):
        Spec.of({"source": URL, "sise": 3})


def test_a_spec_is_frozen_compares_hashes_pickles_and_copies() -> None:
    spec = Spec(
        sources=[URL, Source("http://m.example/a.rpm", priority=1, profile=Profile("p", headers={"A": "b"}))],
        size=3,
        digests=f"sha256:{HEX}",
        unit={"type": "rpm", "name": "a"},
        repository="base",
        meta={"mine": 1},
    )
    with pytest.raises(AttributeError):
        spec.size = 4  # type: ignore[misc]
    for again in (pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec)):
        assert (again, hash(again), again.meta) == (spec, hash(spec), spec.meta)


def test_nothing_secret_is_in_a_repr() -> None:
    profile = Profile(
        "p",
        headers={"X-Key": "canary"},
        auth=("me", "canary"),
        proxies="http://me:canary@proxy:1",
        key_password="canary",
        cert=b"canary",
    )
    spec = Spec(Source("http://me:canary@h/x?sig=canary", profile=profile), profile=profile)
    assert "canary" not in repr(spec) + str(spec) + repr(spec.source) + repr(profile) + repr(spec.sources)


BAD_PROFILES = {
    "line break in a header": {"headers": {"A": "b\r\nC: d"}},
    "header that is no text": {"headers": {"A": 5}},
    "tls 1.0": {"min_tls": "1.0"},
    "fingerprint": {"fingerprint": "abc"},
    "ca and verify=False": {"ca": "/x", "verify": False},
    "verify as path": {"verify": "/x"},
    "cert of a number": {"cert": 5},
    "proxy of another kind": {"proxies": "ftp://proxy:1"},
    "proxy without a host": {"proxies": "http://"},
    "proxy with a port too high": {"proxies": {"https": "http://proxy:99999"}},
    "proxy with a space": {"proxies": "my proxy"},
}

PROXIES = [
    "proxy:3128",
    "proxy",
    "",
    "http://u:p@proxy:1",
    "socks5h://[::1]:1080",
    {"https": "http://p:1", "no_proxy": "a,b"},
]


@pytest.mark.parametrize("proxies", PROXIES, ids=str)
def test_a_proxy_is_written_as_requests_takes_it(proxies: str | dict[str, str]) -> None:
    Profile(proxies=proxies)


def test_a_refused_proxy_does_not_tell_its_password() -> None:
    with pytest.raises(SpecError) as caught:
        Profile(proxies="ftp://me:canary@proxy:1")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kwargs", BAD_PROFILES.values(), ids=list(BAD_PROFILES))
def test_a_profile_that_cannot_be_is_refused(kwargs: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Profile(**kwargs)  # type: ignore[arg-type]


def test_profiles_are_equal_and_hash_by_content() -> None:
    one, two = (Profile(headers={"A": "b"}, auth=["me", "pw"], fingerprint="AB:" * 31 + "AB") for _ in range(2))
    assert (one, hash(one)) == (two, hash(two))


QUERIES = [
    ("http://u:p@h/x?a=1", "http://h/x?a=1"),
    ("http://h/x?X-Amz-Signature=1&a=2", "http://h/x"),
    ("http://h/x?Signature=1", "http://h/x"),
    ("http://h/x?access_token=1", "http://h/x"),
    ("http://h/x?api-key=1", "http://h/x"),
    ("http://h/x?sig=1", "http://h/x"),
    ("http://h/x?page=1&monkey=2", "http://h/x?page=1&monkey=2"),
]


@pytest.mark.parametrize(("url", "kept"), QUERIES)
def test_a_record_keeps_the_query_unless_it_is_a_secret(url: str, kept: str) -> None:
    assert Source(url).kept == kept
    assert Source("http://h/x?a=1", secret_query=True).kept == "http://h/x"


def test_what_is_shown_masks_every_value_of_the_query() -> None:
    assert Source("http://u:p@h:8/x?a=1&b&c=#f").shown == "http://h:8/x?a=***&***&c=***"


@given(st.text(min_size=1, max_size=40))
def test_a_name_is_refused_or_comes_back_from_its_url(name: str) -> None:
    try:
        names.checked_path(name)
    except SpecError:
        return
    url = names.joined("http://h/pool/", name)
    assert names.checked_url(url) == url
    if "/" not in name:
        assert Spec(url).path == name
    json.dumps(url)


@given(st.text(max_size=60))
def test_whatever_is_given_as_a_url_is_a_spec_or_a_spec_error(text: str) -> None:
    try:
        spec = Spec("http://" + text)
    except SpecError:
        return
    assert names.checked_path(spec.path) == spec.path
    assert spec.source.shown
