"""What manifests say, in every format, and what is said of those that are wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from geofetch import manifest
from geofetch.errors import SpecError
from geofetch.manifest import Lines, Place
from geofetch.spec import Digest, Profile, Spec

BASE = "https://mirror.example/pub"
X = hashlib.sha256(b"x").hexdigest()
Y = hashlib.sha256(b"y").hexdigest()
EMPTY = hashlib.sha256(b"").hexdigest()

FEDORA = f"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

# Fedora-Server-netinst.iso: 1000 bytes
SHA256 (Fedora-Server-netinst.iso) = {X}
# Fedora-Server-dvd.iso: 2000 bytes
SHA256 (Fedora-Server-dvd.iso) = {Y}
-----BEGIN PGP SIGNATURE-----

iQIzBAEBCAAdFiEEtX9SUpkGOQ==
=abcd
-----END PGP SIGNATURE-----
"""


def read(text: str | bytes, name: str | None = None, base: str | None = BASE, **more: object) -> list[Spec]:
    given = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return list(manifest.read(io.BytesIO(given), name=name, base=base, **more))  # type: ignore[arg-type]


def refusal(text: str | bytes, name: str | None = "list", base: str | None = BASE, **more: object) -> str:
    with pytest.raises(SpecError) as caught:
        read(text, name, base, **more)
    return caught.value.message


def told(specs: Sequence[Spec]) -> list[tuple[str, str, int | None, list[str]]]:
    return [(spec.path, spec.source.url, spec.size, [str(digest) for digest in spec.digests]) for spec in specs]


# --- lists of URLs ---------------------------------------------------------------------------------------------------


def test_a_list_of_urls_skips_blank_lines_and_comments() -> None:
    found = read("# tonight\n\nhttps://a.example/x.deb\n   \n# no more\nhttps://a.example/y%20z.deb\n", base=None)
    assert told(found) == [
        ("x.deb", "https://a.example/x.deb", None, []),
        ("y z.deb", "https://a.example/y%20z.deb", None, []),
    ]


def test_urls_parted_by_tabs_are_mirrors_of_one_file() -> None:
    (spec,) = read("https://a.example/x.deb\thttp://b.example/pool/x.deb\t\n", base=None)
    assert [source.url for source in spec.sources] == ["https://a.example/x.deb", "http://b.example/pool/x.deb"]
    assert len({(source.priority, source.weight) for source in spec.sources}) == 1
    assert spec.path == "x.deb"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        pytest.param("https://a.example/x y", "%20", id="space-in-it"),
        pytest.param("  out=x.deb", "aria2", id="option-line-of-aria2"),
        pytest.param("x.deb", "is no URL", id="a-name-alone"),
        pytest.param("gopher://a.example/x", "unknown scheme", id="unknown-scheme"),
        pytest.param("https://a.example:x/", "bad URL", id="bad-port"),
        pytest.param(b"https://a.example/\xff", "not valid UTF-8", id="not-utf-8"),
    ],
)
def test_a_bad_line_among_urls_is_named_by_its_number(line: str | bytes, wrong: str) -> None:
    good = b"https://a.example/1\n# comment\n"
    message = refusal(good + (line.encode() if isinstance(line, str) else line) + b"\n", name="urls.txt")
    assert message.startswith("urls.txt, line 3: ")
    assert wrong in message


def test_secrets_of_a_bad_line_are_not_repeated() -> None:
    for line in ("https://me:hunter2@h/x y?token=hunter2", "https://me:hunt er2@h/x", "ftp:// h/?a=hunter2 hunter2"):
        message = refusal(f"https://a.example/1\n{line}\n")
        assert "line 2" in message
        assert "hunt" not in message
    message = refusal("https://a.example/1\n", name="https://me:hunter2@h.example/urls?sig=hunter2", format="pulp")
    assert message.startswith("https://h.example/urls?sig=***, line 1: ")


def test_a_manifest_from_the_network_does_not_name_files_of_this_machine() -> None:
    text = "https://a.example/1\nFILE:///etc/hostname\n"
    assert [spec.path for spec in read(text, name="urls.txt")] == ["1", "hostname"]
    assert "line 2: 'FILE:///etc/hostname' is a file of this machine" in refusal(text, name="http://h.example/urls.txt")
    assert len(read(text, name="file:///srv/urls.txt")) == 2


def test_two_urls_that_would_have_one_path_are_an_error_and_one_that_comes_twice_is_not() -> None:
    assert len(read("https://a.example/x\nhttps://a.example/x\n")) == 1
    message = refusal("https://a.example/1/x\nhttps://a.example/y\nhttps://a.example/2/x\n")
    assert message.startswith("list, line 3: 'x' stands in line 1 already")


# --- checksum files --------------------------------------------------------------------------------------------------


def test_gnu_lines_name_files_in_the_base_folder() -> None:
    found = read(f"# by sha256sum\n{X}  a.deb\n{Y} *sub/b.deb\n{EMPTY}   lead\n", name="SHA256SUMS")
    assert told(found) == [
        ("a.deb", f"{BASE}/a.deb", None, [f"sha256:{X}"]),
        ("sub/b.deb", f"{BASE}/sub/b.deb", None, [f"sha256:{Y}"]),
        (" lead", f"{BASE}/%20lead", None, [f"sha256:{EMPTY}"]),
    ]


def test_names_are_file_names_percent_encoded_once() -> None:
    (spec,) = read(f"{X}  ./pool/libfoo_1%3a2+b~1.deb\n")
    assert spec.path == "pool/libfoo_1%3a2+b~1.deb"
    assert spec.source.url == f"{BASE}/pool/libfoo_1%253a2+b~1.deb"


def test_names_lie_in_the_folder_of_the_manifests_own_url_unless_a_base_is_told() -> None:
    own = "https://h.example/iso/SHA256SUMS?token=t"
    assert read(f"{X}  a\n", name=own, base=None)[0].source.url == "https://h.example/iso/a"
    assert read(f"{X}  a\n", name=own, base="file:///srv/iso/")[0].source.url == "file:///srv/iso/a"


def test_names_without_a_base_are_an_error_that_tells_the_cure() -> None:
    message = refusal(f"{X}  a\n", name="SHA256SUMS", base=None)
    assert message.startswith("SHA256SUMS, line 1: ")
    assert "--base" in message


def test_a_base_that_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="no scheme"):
        manifest.read(b"", base="/srv/iso")


def test_gnu_escapes_are_undone_where_the_line_says_so() -> None:
    assert [spec.path for spec in read(f"\\{X}  a\\\\b\n{Y}  c\\\\d\n")] == ["a\\b", "c\\\\d"]
    assert "control character" in refusal(f"{Y}  ok\n\\{X}  a\\nb\n", name="SHA256SUMS")
    assert "unknown escape '\\\\t'" in refusal(f"\\{X}  a\\tb\n")


def test_what_sha256sum_writes_of_odd_names_is_read_back(tmp_path: Path) -> None:
    command = shutil.which("sha256sum")
    if command is None:
        pytest.skip("no sha256sum here")
    names = sorted(["a b", " lead", "*star", "back\\slash", "per%41cent", "(x) = y", "#hash", "trail ", "ünï"])
    for name in names:
        (tmp_path / name).write_text(name)
    for form in ([], ["--tag"], ["--binary"]):
        made = subprocess.run([command, *form, "--", *names], cwd=tmp_path, capture_output=True, check=True).stdout
        found = read(made)
        assert [spec.path for spec in found] == names
        assert [spec.digests[0].value for spec in found] == [hashlib.sha256(name.encode()).digest() for name in names]


@pytest.mark.parametrize(
    ("line", "algorithm"),
    [
        pytest.param("SHA256 (a (1).iso) = {sha256}", "sha256", id="bsd"),
        pytest.param("SHA2-256(a (1).iso)= {sha256}", "sha256", id="openssl"),
        pytest.param("BLAKE2b-256 (a (1).iso) = {blake2b256}", "blake2b-256", id="shortened-blake2"),
        pytest.param("SHA3-256 (a (1).iso) = {sha3_256}", "sha3_256", id="sha3"),
        pytest.param("SHA256 (a (1).iso) = {base64}", "sha256", id="base64-of-openbsd"),
        pytest.param("MD5 (a (1).iso) = {md5}", "md5", id="md5"),
    ],
)
def test_tagged_lines_tell_their_algorithm(line: str, algorithm: str) -> None:
    digests = {
        "sha256": X,
        "base64": base64.b64encode(bytes.fromhex(X)).decode(),
        "blake2b256": hashlib.blake2b(b"x", digest_size=32).hexdigest(),
        "sha3_256": hashlib.sha3_256(b"x").hexdigest(),
        "md5": hashlib.md5(b"x", usedforsecurity=False).hexdigest(),
    }
    (spec,) = read(line.format(**digests) + "\n")
    assert spec.path == "a (1).iso"
    (digest,) = spec.digests
    assert digest.algorithm == algorithm
    fresh = digest.new()
    fresh.update(b"x")
    assert digest.value == fresh.digest()


@pytest.mark.parametrize(
    ("name", "length", "algorithm"),
    [
        ("SHA512SUMS", 128, "sha512"),
        ("B2SUMS", 128, "blake2b"),
        ("B2SUMS", 64, "blake2b-256"),
        ("MD5SUMS", 32, "md5"),
        ("a.iso.sha256", 64, "sha256"),
        ("a.iso.sha256sum", 64, "sha256"),
        ("sha256sum.txt", 64, "sha256"),
        ("SHA256SUMS.gz", 64, "sha256"),
        ("tool_1.0_SHA256SUMS", 64, "sha256"),
        ("checksums_sha512.txt", 128, "sha512"),
        ("sha3-256sums", 64, "sha3_256"),
        ("https://h.example/pub/B2SUMS?x=1", 128, "blake2b"),
        ("a.sm3", 64, "sm3"),
        ("md5-tool-1.0-CHECKSUM", 64, "sha256"),
        ("CHECKSUM", 128, "sha512"),
        ("list", 40, "sha1"),
        ("list", 96, "sha384"),
        (None, 64, "sha256"),
    ],
)
def test_untagged_lines_take_their_algorithm_from_the_manifests_name_or_from_their_length(
    name: str | None, length: int, algorithm: str
) -> None:
    (spec,) = read("0f" * (length // 2) + "  a\n", name=name)
    assert [digest.algorithm for digest in spec.digests] == [algorithm]


def test_an_algorithm_that_is_told_goes_before_what_the_name_tells() -> None:
    assert read(f"{X}  a\n", name="SHA256SUMS", algorithm="sha3-256")[0].digests[0].algorithm == "sha3_256"
    assert "unknown digest algorithm 'crc'" in refusal(f"{X}  a\n", algorithm="crc")


def test_a_digest_of_the_wrong_length_for_the_manifests_name_is_an_error() -> None:
    assert "128 hex digits are wanted, 64 were given" in refusal(f"{X}  a\n", name="SHA512SUMS")
    assert "no telling which algorithm has 66 hex digits" in refusal(f"{X}00  a\n")
    assert "neither hex nor base64" in refusal(f"{X}  a\nSHA256 (b) = {'zz' * 32}\n")


def test_a_clear_signed_checksum_file_gives_names_sizes_and_digests() -> None:
    assert told(read(FEDORA, name="Fedora-Server-42-CHECKSUM")) == [
        ("Fedora-Server-netinst.iso", f"{BASE}/Fedora-Server-netinst.iso", 1000, [f"sha256:{X}"]),
        ("Fedora-Server-dvd.iso", f"{BASE}/Fedora-Server-dvd.iso", 2000, [f"sha256:{Y}"]),
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param(FEDORA.partition("-----BEGIN PGP SIGNATURE")[0], "line 7: the signed text ends without", id="cut"),
        pytest.param(FEDORA.partition("\n\n# Fedora-S")[0], "line 2: the signed text ends without", id="cut-early"),
        pytest.param(FEDORA + f"{X}  evil\n", "line 13: lines stand behind", id="line-behind"),
        pytest.param(f"{X}  evil\n" + FEDORA, "line 2: lines stand before", id="line-before"),
        pytest.param(FEDORA.replace("# Fedora-Server-dvd", "-x"), "line 6: a line of the signed", id="not-escaped"),
        pytest.param(FEDORA.replace("\n\n#", "\n#"), "line 3: a PGP header", id="no-blank-line"),
        pytest.param(
            FEDORA.replace("# Fedora-Server-n", "what?\n-"), "line 5: a line of the signed", id="while-sniffing"
        ),
    ],
)
def test_a_signed_text_that_is_cut_or_added_to_is_never_half_read(text: str, wrong: str) -> None:
    assert wrong in refusal(text, name="CHECKSUM")


def test_dashes_that_armor_escapes_are_names() -> None:
    (spec,) = read(
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -----\n{X}  -x\n"
        "-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----\n".replace("- -----\n", "- # -----\n")
    )
    assert spec.path == "-x"


def test_lines_about_one_file_that_follow_each_other_are_one_spec() -> None:
    md5 = hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    text = f"SHA256 (a) = {X}\nMD5 (a) = {md5}\nSIZE (a) = 1\nSHA256 (b) = {EMPTY}\nSIZE (b) = 0\n"
    assert told(read(text)) == [
        ("a", f"{BASE}/a", 1, [f"sha256:{X}", f"md5:{md5}"]),
        ("b", f"{BASE}/b", 0, [f"sha256:{EMPTY}"]),
    ]


def test_a_name_that_comes_twice_is_given_once_and_contradictions_are_errors_with_both_lines() -> None:
    assert [spec.path for spec in read(f"{X}  a\n{Y}  b\n{X.upper()}  ./a\n")] == ["a", "b"]
    message = refusal(f"{X}  a\n{X}  b\n{Y}  a\n{X}  c\n")
    assert message.startswith("list, line 3: 'a' stands in line 1 already")
    assert "two different sha256 digests" in refusal(f"{X}  a\n{Y}  a\n")
    assert "'a' has 1 bytes by line 1, and 2 here" in refusal("SIZE (a) = 1\nSIZE (a) = 2\n")


def test_a_digest_alone_is_that_of_the_file_the_manifest_is_named_after() -> None:
    name = "https://h.example/iso/a%20b.iso.sha256"
    assert told(read(f"{X}\n", name=name, base=None)) == [
        ("a b.iso", "https://h.example/iso/a%20b.iso", None, [f"sha256:{X}"])
    ]
    assert "without a file name" in refusal(f"{X}\n", name="SHA256SUMS")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        pytest.param(f"{X}  ../a", "unsafe path '../a'", id="climbs-out"),
        pytest.param(f"{X}  /etc/passwd", "it is absolute", id="absolute"),
        pytest.param(f"{X}  {'n' * 256}", "longer than 255 bytes", id="long"),
        pytest.param(f"{X}  .geofetch/units.db", "belongs to geofetch", id="ours"),
        pytest.param(f"{X}  a\udcff", "not valid UTF-8", id="not-utf-8"),
        pytest.param(f"{X}  a\tb", "control character", id="tab"),
        pytest.param(f"{X}  -", "standard input", id="stdin"),
        pytest.param(f"{X} \n", "without a file name", id="no-name"),
        pytest.param("what is this?", "no line of a checksum file", id="prose"),
        pytest.param(f"SIZE (b) = 7\n{X}  c", "no digest beside it", id="size-alone"),
        pytest.param("SIZE (b) = big", "bad size 'big'", id="size-in-words"),
        pytest.param(f"CRC77 (b) = {X}", "unknown digest algorithm 'CRC77'", id="unknown-algorithm"),
    ],
)
def test_a_bad_line_of_a_checksum_file_is_named_by_its_number(line: str, wrong: str) -> None:
    message = refusal(f"\n# two lines above\n{Y}  good\n{line}\n", name="SHA256SUMS")
    assert message.startswith("SHA256SUMS, line 4: ")
    assert wrong in message


def test_what_stands_before_a_bad_line_was_given_and_nothing_after_it_is() -> None:
    specs = manifest.read(f"{X}  a\n{Y}  b\n{X}  ../c\n{X}  d\n".encode(), base=BASE)
    assert [next(specs).path, next(specs).path] == ["a", "b"]
    with pytest.raises(SpecError, match=r"manifest, line 3: unsafe path '\.\./c'"):
        next(specs)
    assert list(specs) == []


# --- JSON lines ------------------------------------------------------------------------------------------------------


def test_json_lines_are_specs() -> None:
    (a, b, c) = read(
        f'{{"source": "https://h.example/a.rpm?x=1", "size": 0, "digests": {{"sha256": "{EMPTY}"}},'
        ' "path": "p/a.rpm"}\n'
        "\n"
        '{"sources": ["./b%41.rpm", {"url": "https://o.example/b.rpm", "priority": 1, "weight": 3}], "size": null,'
        ' "unit": {"type": "rpm", "name": "b"}, "repository": "own", "profile": "corp", "meta": [1]}\n'
        '"https://h.example/c.rpm"',
        repository="all",
        profile=Profile("mine"),
    )
    assert (a.path, a.source.url, a.size, a.repository) == ("p/a.rpm", "https://h.example/a.rpm?x=1", 0, "all")
    assert a.digests == (Digest.of("sha256", EMPTY),)
    assert a.profile == Profile("mine")
    assert b.path == "b%41.rpm"
    assert [(s.url, s.priority, s.weight) for s in b.sources] == [
        (f"{BASE}/b%2541.rpm", 0, 1),
        ("https://o.example/b.rpm", 1, 3),
    ]
    assert (b.size, b.unit, b.repository, b.profile) == (None, {"type": "rpm", "name": "b"}, "own", "corp")
    assert b.meta == [1]
    assert c.path == "c.rpm"


@pytest.mark.parametrize("indent", [None, 2], ids=["one-line", "many-lines"])
def test_a_json_array_is_read_element_by_element(indent: int | None) -> None:
    wanted = [{"source": f"n{number}.rpm", "size": number, "meta": "é]},{[" * 40} for number in range(3000)]
    text = json.dumps(wanted, indent=indent, ensure_ascii=False).encode()
    assert len(text) > 15 * 65536
    taken = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken
        for start in range(0, len(text), 4099):
            taken += 1
            yield text[start : start + 4099]

    specs = manifest.read(manifest.split(blocks()), base=BASE)
    first = next(specs)
    assert (first.path, first.size) == ("n0.rpm", 0)
    assert taken < 60
    assert [spec.size for spec in specs] == list(range(1, 3000))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param('{"source": "a"}\n{"source": "b"\n', "line 2: bad JSON at column 15", id="cut-object"),
        pytest.param('{"source": "a"} {"source": "b"}\n', "line 1: bad JSON at column 17", id="two-on-a-line"),
        pytest.param('{"source": "a"}\n17\n', "line 2: an object is wanted", id="number"),
        pytest.param('{"source": "a"}\n[{"source": "b"}]\n', "line 2: an object is wanted", id="array-in-lines"),
        pytest.param('{"source": "a", "source": "b"}\n', "line 1: the key 'source' stands twice", id="key-twice"),
        pytest.param('{"source": "a", "size": NaN}\n', "line 1: bad JSON: NaN", id="nan"),
        pytest.param('{"source": "a", "size": 1.5}\n', "line 1: size is a whole number", id="fraction"),
        pytest.param('{"source": "a", "url": "b"}\n', "line 1: a spec has no url", id="unknown-key"),
        pytest.param('{"path": "a"}\n', "line 1: a spec needs a source", id="no-source"),
        pytest.param('{"source": "a", "path": 5}\n', "line 1: path is text", id="path-is-a-number"),
        pytest.param('{"source": "a", "digests": {"md5": 5}}\n', "line 1: digests are text", id="digest-is-a-number"),
        pytest.param(
            '{"source": {"priority": 1}}\n', 'line 1: a source is a URL, or an object with a "url"', id="no-url"
        ),
        pytest.param('{"sources": "a"}\n', "line 1: sources is a list", id="sources-is-text"),
        pytest.param('{"source": "a", "profile": {"verify": false}}\n', "line 1: profile is", id="a-profile-in-it"),
        pytest.param('{"source": "\\ud800"}\n', "line 1: unsafe path", id="lone-surrogate"),
        pytest.param('{"source": "https://h/\\ud800"}\n', "line 1: bad URL", id="lone-surrogate-in-url"),
        pytest.param('[{"source": "a"},\n{"source": "../b"}]\n', "line 2: unsafe path", id="bad-element"),
        pytest.param('[\n{"source":\n"../b"\n}]\n', "line 2: unsafe path", id="bad-element-on-many-lines"),
        pytest.param('[{"source": "a"},\n {"source": "b"}\n', "line 3: the array has no end", id="array-cut"),
        pytest.param('[{"source": "a"},\n {"source": \n "b"', "line 2: bad JSON in the object", id="array-cut-inside"),
        pytest.param('[{"source": "a"}\n {"source": "b"}]', "line 2: bad JSON: ',' was expected", id="no-comma"),
        pytest.param('[{"source": "a"}]\n\n{}', "line 3: something follows", id="behind-the-array"),
        pytest.param("[1]", "line 1: bad JSON: an object is wanted", id="array-of-numbers"),
        pytest.param("[" * 5000, "line 1: bad JSON", id="arrays-all-the-way-down"),
        pytest.param('{"meta":' * 5000, "line 1: bad JSON", id="objects-all-the-way-down"),
        pytest.param('{"source": "a", "size": ' + "9" * 5000 + "}", "line 1: ", id="endless-number"),
    ],
)
def test_bad_json_is_named_by_its_line(text: str, wrong: str) -> None:
    assert wrong in refusal(text)


def test_one_file_in_two_repositories_is_no_repetition() -> None:
    text = f'{{"source": "a", "digests": "sha256:{X}", "repository": "one"}}\n' * 2
    assert [spec.repository for spec in read(text.replace("one", "two", 1))] == ["two", "one"]


def test_an_empty_array_is_an_empty_manifest() -> None:
    assert read("[\n]\n") == []


# --- PULP_MANIFEST ---------------------------------------------------------------------------------------------------


def test_a_pulp_manifest_gives_names_digests_and_sizes() -> None:
    text = f'iso/a%20b.iso,{X},1\n"c, ""d"".txt",{EMPTY},0\r\n#hash,{Y}, 7 \n# no entry\n'
    assert told(read(text, name="PULP_MANIFEST")) == [
        ("iso/a%20b.iso", f"{BASE}/iso/a%2520b.iso", 1, [f"sha256:{X}"]),
        ('c, "d".txt', f"{BASE}/c,%20%22d%22.txt", 0, [f"sha256:{EMPTY}"]),
        ("#hash", f"{BASE}/%23hash", 7, [f"sha256:{Y}"]),
    ]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        pytest.param(f"a,b,{X},1", "4 fields", id="comma-in-name"),
        pytest.param(f"a,{X}", "2 fields", id="no-size"),
        pytest.param(f"a,{X},-1", "bad size '-1'", id="negative-size"),
        pytest.param(f"a,{X[:-2]},1", "64 hex digits are wanted, 62 were given", id="short-digest"),
        pytest.param(f'"a,{X},1', "bad quoting", id="open-quote"),
        pytest.param(f"../a,{X},1", "unsafe path", id="climbs-out"),
    ],
)
def test_a_bad_line_of_a_pulp_manifest_is_named_by_its_number(line: str, wrong: str) -> None:
    message = refusal(f"good,{X},1\n{line}\nmore,{X},1\n", name="PULP_MANIFEST")
    assert message.startswith("PULP_MANIFEST, line 2: ")
    assert wrong in message


# --- any of them -----------------------------------------------------------------------------------------------------

SAME = {
    "urls": f"{BASE}/a\n{BASE}/b\n",
    "checksums": f"{X}  a\n{Y}  b\n",
    "jsonl": '{"source": "a"}\n{"source": "b"}\n',
    "array": '[{"source": "a"},\n{"source": "b"}]\n',
    "pulp": f"a,{X},1\nb,{Y},1\n",
}


def zipped(text: bytes) -> bytes:
    middle = text.index(b"\n") + 1
    return gzip.compress(text[:middle]) + gzip.compress(text[middle:])


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SAME.items()])
@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(lambda text: text, id="as-it-is"),
        pytest.param(lambda text: text.removesuffix(b"\n"), id="no-last-newline"),
        pytest.param(lambda text: text.replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(lambda text: b"\xef\xbb\xbf" + text, id="bom"),
        pytest.param(zipped, id="gzip"),
        pytest.param(lambda text: gzip.compress(b"\xef\xbb\xbf" + text), id="bom-in-gzip"),
    ],
)
def test_every_format_is_told_by_its_content_in_every_wrapping(text: str, wrapped: Callable[[bytes], bytes]) -> None:
    given = wrapped(text.encode())
    for source in (
        given,
        io.BytesIO(given),
        io.StringIO(text),
        manifest.split(given[i : i + 1] for i in range(len(given))),
    ):
        found = list(manifest.read(source, base=BASE))
        assert [(spec.path, spec.source.url) for spec in found] == [("a", f"{BASE}/a"), ("b", f"{BASE}/b")]


def test_lines_are_taken_with_and_without_their_ends() -> None:
    for lines in (
        [f"{X}  a\n", f"{Y}  b"],
        [f"{X}  a".encode(), b"", f"{Y}  b".encode()],
        [f"{X}  a\r\n", f"{Y}  b\r\n"],
    ):
        assert [spec.path for spec in manifest.read(iter(lines), base=BASE)] == ["a", "b"]


def test_blocks_that_are_no_lines_are_refused_and_not_half_read() -> None:
    with pytest.raises(SpecError, match=r"manifest\.split"):
        list(manifest.read([f"{X}  a\n{Y}".encode(), b"  b\n"], base=BASE))


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing tonight\n", "\ufeff"])
def test_an_empty_manifest_holds_no_specs(text: str) -> None:
    assert read(text, base=None) == []
    assert read(text, base=None, format="checksums") == []


def test_a_text_or_a_path_is_no_manifest() -> None:
    for wrong in ("SHA256SUMS", Path("SHA256SUMS")):
        with pytest.raises(SpecError, match="open"):
            manifest.read(wrong)


def test_a_cut_or_damaged_gzip_is_an_error() -> None:
    whole = gzip.compress("".join(f"{X}  a{number}\n" for number in range(500)).encode())
    assert "cut or damaged" in refusal(whole[:-9])
    assert "cut or damaged" in refusal(whole[:-8] + b"\0\0\0\0" + whole[-4:])


def test_utf_16_is_named_as_what_it_is() -> None:
    assert "UTF-16; save it as UTF-8" in refusal(f"{X}  a\n".encode("utf-16"))


def test_a_line_without_an_end_is_not_read_into_memory() -> None:
    taken = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    with pytest.raises(SpecError, match="line 1: the line is longer than"):
        list(manifest.read(manifest.split(blocks()), base=BASE, format="checksums"))
    assert taken < 40


def test_an_unknown_content_tells_the_formats_and_how_to_choose() -> None:
    message = refusal("what is this?\n")
    assert message.startswith("list: the format of the manifest is unknown")
    assert "--format" in message
    assert all(name in message for name in ("urls", "checksums", "jsonl", "pulp"))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("SHA256SUMS", "no line of a checksum file"),
        ("CHECKSUM", "no line of a checksum file"),
        ("PULP_MANIFEST", "fields"),
        ("specs.jsonl", "bad JSON"),
        ("urls.txt", "is no URL"),
    ],
)
def test_where_the_first_line_is_bad_the_name_tells_the_format(name: str, wrong: str) -> None:
    message = refusal("what is this?\n", name=f"/srv/{name}")
    assert message.startswith(f"/srv/{name}, line 1: ")
    assert wrong in message


def test_a_format_can_be_chosen() -> None:
    assert "line 1: " in refusal(f"{X}  a\n", format="pulp")
    with pytest.raises(SpecError, match="no format is called 'metalink'; there are urls, checksums, jsonl, pulp"):
        manifest.read(b"", format="metalink")


def test_the_name_of_an_open_file_is_the_manifests(tmp_path: Path) -> None:
    (tmp_path / "B2SUMS").write_text(f"{X * 2}  a\n")
    with (tmp_path / "B2SUMS").open("rb") as file:
        (spec,) = manifest.read(file, base=BASE)
        assert not file.closed
    assert spec.digests[0].algorithm == "blake2b"


def test_repository_and_profile_are_every_specs() -> None:
    profile = Profile("corp", headers={"X-Key": "k"})
    for text in SAME.values():
        assert {(spec.repository, spec.profile) for spec in read(text, repository="night", profile=profile)} == {
            ("night", profile)
        }


def test_no_more_lines_are_read_than_are_asked_for() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"{X}  f{taken}\n".encode()

    specs = manifest.read(endless(), base=BASE)
    assert taken == 0
    for wanted in range(1, 501):
        assert next(specs).path == f"f{wanted}"
        assert taken <= max(wanted + 1, 20)


# --- plugins ---------------------------------------------------------------------------------------------------------


class Colons:
    name = "colons"
    about = "name:size, as nobody has it"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        return bool(head) and head[0].count(":") == 1 and "//" not in head[0]

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        for line in lines:
            name, _, size = line.partition(":")
            yield place.file(name, size=int(size))


class Everything(Colons):
    name = "everything"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        return bool(head)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(**plugins: str) -> None:
        ours = {"urls": "geofetch.manifest.urls:Urls", "pulp": "geofetch.manifest.pulp:PulpManifest"}
        points = EntryPoints(EntryPoint(name, value, manifest.GROUP) for name, value in (ours | plugins).items())
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: points.select(**wanted))

    return install


def test_ours_are_there_without_any_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: EntryPoints())
    assert list(manifest.formats()) == ["urls", "checksums", "jsonl", "pulp"]
    assert len(read(SAME["checksums"])) == 2


def test_a_plugin_adds_a_format(installed: Callable[..., None]) -> None:
    installed(colons=f"{__name__}:Colons")
    assert list(manifest.formats()) == ["urls", "checksums", "jsonl", "pulp", "colons"]
    assert [(spec.path, spec.size) for spec in read("a:1\nb:2\n")] == [("a", 1), ("b", 2)]
    assert [spec.path for spec in read("a:1\n", format="colons")] == ["a"]
    assert refusal("a:1\nb:x\n").startswith("list, line 2: invalid literal for int()")


def test_two_formats_that_fit_are_an_error_that_names_both(installed: Callable[..., None]) -> None:
    installed(everything=f"{__name__}:Everything")
    assert "checksums and everything" in refusal(SAME["checksums"])
    assert len(read(SAME["checksums"], format="checksums")) == 2


def test_a_plugin_that_does_not_load_takes_nothing_with_it(
    installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    installed(broken="geofetch_no_such_module:Reader", odd="json:loads", urls="json.decoder:JSONDecoder")
    assert list(manifest.formats()) == ["urls", "checksums", "jsonl", "pulp"]
    assert "'broken' could not be loaded" in caplog.text
    with pytest.raises(SpecError, match="'broken' could not be loaded: ModuleNotFoundError"):
        manifest.read(b"", format="broken")
