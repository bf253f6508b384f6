"""The command as a whole: how it starts, what it says when it is held wrongly, which code says what."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

from geofetch import errors
from geofetch.cli import codes
from geofetch.cli.console import escaped, redacted
from tests.support.process import Child

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it said on stdout, in JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**more: str) -> dict[str, str]:
    """This process' environment (conftest has cleaned it), for the command as it stands in this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def started(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, **how: Any
) -> subprocess.Popen[str]:
    """The command, under way."""
    return Child(
        [sys.executable, "-m", "geofetch", *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        text=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
    )


def run(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, said: str | None = None, **how: Any
) -> Done:
    """The command, run to its end; ``said`` is its stdin."""
    if said is not None:
        how["stdin"] = subprocess.PIPE
    with started(*arguments, cwd=cwd, env=env, **how) as process:
        out, err = process.communicate(said, timeout=100)
        return Done(process.returncode, out or "", err or "")


def files_in(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


_IMPORTED = """
import sys
before = set(sys.modules)
from geofetch.cli import main
code = main({arguments!r})
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(tops - sys.stdlib_module_names), file=sys.stderr)
raise SystemExit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["sync", "--help"], ["profiles", "add", "--help"], ["--version"], ["help", "exit-codes"]],
    ids=" ".join,
)
def test_help_imports_click_and_the_standard_library_only(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED.format(arguments=arguments)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "['click', 'geofetch']"
    assert "geofetch" in done.stdout or "Exit codes" in done.stdout


def test_the_exit_codes_are_told(tmp_path: Path) -> None:
    said = run("help", "exit-codes", cwd=tmp_path).out
    for code in (*range(14), 130, 143):
        assert f"\n{code:>4}  " in said


WRONGLY: list[tuple[Sequence[str], str]] = [
    (["get"], "Missing argument 'URL...'"),
    (["gte", "http://localhost/a"], "No such command 'gte'"),
    (["get", "--jobs", "many", "http://localhost/a"], "'many' is not a valid integer"),
    (["get", "http://localhost/a", "http://localhost/b", "-o", "c"], "--output is for one file"),
    (["get", "http://localhost/a", "http://127.0.0.1/a"], "two URLs end in the same name, 'a'"),
    (["get", "http://localhost/a", "--digest", "sha256:12"], "64 hex digits are wanted"),
    (["get", "localhost/a"], "no scheme; use http, https or file"),
    (["get", "http://localhost/a", "--timeout", "soon"], "a time above 0 is wanted"),
    (["get", "http://localhost/a", "--key", __file__], "give --cert as well"),
    (["get", "http://localhost/a", "-H", "X-Team mirrors"], "'Name: value' is wanted, as in 'X-Team: mirrors'"),
    (["get", "http://localhost/a", "--repository", "r"], "--repository is for the records"),
    (["sync", "http://localhost/SHA256SUMS"], "where to? give --into DIR"),
    (["sync", "no/such/manifest", "--into", "d"], "cannot be read: No such file or directory"),
    (["units", "list"], "where are the records?"),
    (["units", "list", "--into", "nowhere"], "no records in nowhere"),
    (["units", "list", "--db", "oracle://u:canary@h/db"], "databases of type 'oracle' are not supported"),
    (["verify", "--into", "nowhere"], "no records in nowhere"),
    (["verify", "--db", "sqlite:///x.db", "--sample", "0"], "a share as in 5%"),
]


@pytest.mark.parametrize(("arguments", "words"), [pytest.param(*case, id=case[1]) for case in WRONGLY])
def test_what_a_user_gets_wrong_is_one_line_and_code_2(arguments: Sequence[str], words: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
    assert "canary" not in done.err
    assert files_in(tmp_path) == set()


ONLY_ASKING = [
    ("verify",),
    ("verify", "--into", "mirror"),
    ("verify", "--repair"),
    ("repair",),
    ("repair", "--into", "mirror"),
    ("units", "list"),
    ("units", "show", "a"),
    ("units", "export"),
    ("units", "gc"),
    ("sources", "list"),
    ("sources", "test"),
    ("repositories", "list"),
    ("repositories", "show", "a"),
    ("repositories", "diff", "a", "b"),
    ("doctor",),
]


@pytest.mark.parametrize("words", ONLY_ASKING, ids=" ".join)
def test_records_whose_name_is_mistyped_are_not_begun(words: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    done = run(*words, "--db", "sqlite:///typo.db", cwd=tmp_path)
    assert done.code == 2, done.err
    assert f"no records in sqlite:///typo.db: {tmp_path}/typo.db is not there" in done.err
    assert (done.out, files_in(tmp_path)) == ("", set())


def test_no_arguments_are_a_question(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.code == 2
    assert "Usage: geofetch" in done.err


def _answered(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


def _exhausted(*each: errors.FetchError) -> errors.SourcesExhausted:
    error = errors.SourcesExhausted("all failed")
    error.errors = tuple((None, one) for one in each)
    return error


CAUSES = [
    (errors.SpecError("x"), 2),
    (errors.Unreachable("x"), 4),
    (errors.ProxyFailure("x"), 4),
    (errors.ProxyFailure("x", response=_answered(407)), 8),
    (errors.Truncated("x"), 4),
    (errors.BadResponse("x"), 4),
    (errors.Stalled("x"), 5),
    (errors.DeadlineExceeded("x"), 5),
    (errors.BadStatus("x", response=_answered(418)), 6),
    (errors.BadStatus("x", response=_answered(500)), 9),
    (errors.RedirectLoop("x"), 6),
    (errors.RedirectRefused("x"), 6),
    (errors.NotFound("x", response=_answered(404)), 7),
    (errors.Unauthorized("x", response=_answered(401)), 8),
    (errors.RateLimited("x", response=_answered(429)), 9),
    (errors.UntrustedTLS("x"), 10),
    (errors.SizeMismatch("x"), 11),
    (errors.TooLarge("x"), 11),
    (errors.DigestMismatch("x"), 11),
    (errors.Undecodable("x"), 11),
    (errors.StoreError("x"), 12),
    (errors.RecordError("x"), 13),
    (errors.FetchError("x"), 1),
    (TypeError("x"), 1),
    (_exhausted(errors.NotFound("x"), errors.NotFound("y")), 7),
    (_exhausted(errors.NotFound("x"), errors.Stalled("y")), 3),
]


@pytest.mark.parametrize(
    ("error", "code"), [pytest.param(*case, id=f"{type(case[0]).__name__}-{case[1]}") for case in CAUSES]
)
def test_every_cause_has_its_code(error: BaseException, code: int) -> None:
    assert codes.code_of(error) == code
    assert code in codes.MEANINGS


def test_one_cause_gives_its_code_and_several_give_3() -> None:
    assert codes.of_all([]) == 0
    assert codes.of_all([0, 7, 7, 0]) == 7
    assert codes.of_all([7, 4]) == 3


def test_what_is_shown_holds_no_secret() -> None:
    text = (
        'GET https://me:canary1@h.example/a?token=canary2&n=canary3#f "GET /a?sig=canary4 HTTP/1.1" '
        "of canary5 and\nAuthorization: Bearer canary6\nnext"
    )
    shown = redacted(text, ["canary5"])
    assert "canary" not in shown
    assert shown.startswith("GET https://h.example/a?token=***&n=*** ")
    assert shown.endswith("\nAuthorization: ***\nnext")


def test_what_is_shown_drives_no_terminal() -> None:
    assert escaped("a\x1b[31mb\u202ec\nd\tä") == "a\\x1b[31mb\\u202ec\nd\\tä"


def test_doctor_tells_what_decides(tmp_path: Path) -> None:
    env = {"https_proxy": "http://me:canary@proxy.example:3128", "no_proxy": "localhost"}
    done = run("doctor", "--json", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    (told,) = done.objects
    assert told["ok"] is True
    assert told["proxies"] == {"by_scheme": {"https": "http://proxy.example:3128"}, "not_for": "localhost"}
    assert told["patched"]["world"] == "nothing patched"
    assert told["ca"]["from"] == "certifi"
    assert told["ca"]["certificates"] > 50
    assert told["files"]["connections"] == max(4, told["files"]["raised_to"] // 3)
    people = run("doctor", cwd=tmp_path, env=env)
    assert people.code == 0
    assert "all is well" in people.out
    assert "canary" not in done.out + people.out + done.err + people.err


def test_doctor_tells_of_every_extra_whether_it_can_be_used(tmp_path: Path) -> None:
    tree = ast.parse((ROOT / "setup.py").read_text())
    (extras,) = (
        ast.literal_eval(one.value)
        for one in tree.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "EXTRAS"
    )
    packages = {name: {re.match(r"[\w-]+", one)[0] for one in wanted} for name, wanted in extras.items()}  # type: ignore[index]
    (tmp_path / "tomlkit.py").write_text("raise ImportError('a part of it is missing')\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    (told,) = run("doctor", "--json", cwd=tmp_path, env=env).objects
    assert {name: set(found) for name, found in told["extras"].items()} == packages
    assert told["extras"]["profiles"] == {"cryptography": metadata.version("cryptography"), "tomlkit": None}
    assert told["extras"]["s3"] == {"boto3": metadata.version("boto3")}
    lines = [line.removeprefix("extras").split() for line in run("doctor", cwd=tmp_path, env=env).out.splitlines()]
    assert ["profiles", "no", "tomlkit:", "pip", "install", "'geofetch[profiles]'"] in lines
    assert ["s3", "boto3", metadata.version("boto3")] in lines


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_doctor_finds_a_ca_bundle_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing\n")
    done = run("doctor", "--json", cwd=tmp_path, env={name: "ca.pem"})
    assert done.code == 13
    (told,) = done.objects
    assert told["ca"] == {"bundle": "ca.pem", "from": name, "certificates": None}
    assert name in told["problems"][0]


def test_doctor_raises_the_limit_of_open_files_to_the_hard_one(tmp_path: Path) -> None:
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 900))

    (told,) = run("doctor", "--json", cwd=tmp_path, preexec_fn=limited).objects
    assert told["files"] == {"soft": 128, "raised_to": 900, "connections": 300}


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run("doctor", "--json", cwd=tmp_path, stdout=write_end)
    os.close(write_end)
    assert done.code == 141
    assert done.err == ""


_BROKEN = """
import sys
from geofetch.cli.work import perform

def broken(work):
    work.opened_by(["canary"])
    raise TypeError("a bug with a canary, at https://me:secret@host.example/?token=secret")

raise SystemExit(perform("broken", {{"loud": {loud}}}, broken))
"""


@pytest.mark.parametrize("loud", [0, 1])
def test_a_bug_of_ours_is_told_without_secrets_and_its_story_on_request(loud: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BROKEN.format(loud=loud)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "unexpected error: TypeError: a bug with a ***, at https://host.example/?token=***" in done.stderr
    assert ("Traceback" in done.stderr) is bool(loud)
    assert ("-v for the whole story" in done.stderr) is not bool(loud)
    assert "secret" not in done.stderr
    assert "canary" not in done.stderr
