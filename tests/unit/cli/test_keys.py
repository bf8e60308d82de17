"""`budget keys`: a key is printed once, what is wrong is one line, and the exit status says whose fault it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from budget_bus.cli import main
from budget_bus.keys.file import read_keys
from budget_bus.keys.key import PREFIX, digest_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUDGET_API_KEYS_FILE", "keys.json")


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """What `budget keys ...` prints to stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments])
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said
    return said.out, said.err


def test_add_prints_the_key_and_nothing_else_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "add", "rhetor", "--role", "record", "--role", "check", "--component", "rhetor")
    key = out.removesuffix("\n")
    assert key.startswith(PREFIX)
    assert key not in err
    (kept,) = read_keys(Path("keys.json"))
    assert (kept.name, kept.roles, kept.components) == ("rhetor", ("record", "check"), ("rhetor",))
    assert kept.sha256 == digest_of(key)


def test_add_tells_a_program_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "add", "ops", "--role", "admin", "--format", "json")[0])
    assert {name: told[name] for name in ("name", "roles", "components")} == {
        "name": "ops",
        "roles": ["admin"],
        "components": None,
    }
    (kept,) = read_keys(Path("keys.json"))
    assert kept.sha256 == digest_of(told["key"])


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_list_shows_neither_key_nor_hash(capsys: pytest.CaptureFixture[str], form: str) -> None:
    key = run(capsys, "add", "rhetor", "--role", "check", "--component", "rhetor")[0].strip()
    shown, _ = run(capsys, "list", "--format", form)
    assert "rhetor" in shown
    assert key not in shown
    assert digest_of(key) not in shown
    if form == "json":
        assert [set(row) for row in json.loads(shown)] == [{"name", "roles", "components", "created_at"}]
    if form == "csv":
        assert next(csv.reader(io.StringIO(shown))) == ["name", "roles", "components", "created_at"]


def test_revoke_ends_one_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        run(capsys, "add", name, "--role", "read")
    assert run(capsys, "revoke", "a")[0] == "revoked a in keys.json\n"
    assert [row["name"] for row in json.loads(run(capsys, "list", "--format", "json")[0])] == ["b"]


def test_the_option_goes_before_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "add", "a", "--role", "read", "--file", "other.json")
    assert not Path("keys.json").exists()
    assert run(capsys, "revoke", "a", "--file", "other.json")[0] == "revoked a in other.json\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["add", "a", "--role", "read"], 1, "'a' already", id="a name that is taken"),
        pytest.param(["revoke", "zz"], 1, "no key 'zz' in keys.json", id="a name that nobody has"),
        pytest.param(["add", "b"], 2, "--role", id="no role"),
        pytest.param(["add", "b", "--role", "boss"], 2, "'boss' is not one of", id="no such role"),
        pytest.param(["add", "b c", "--role", "read"], 2, "name: must have", id="a name with a blank"),
        pytest.param(["add", "b", "--role", "check", "--component", ""], 2, "components.0", id="a nameless component"),
        pytest.param(["add", "b", "--role", "admin", "--component", "x"], 2, "cannot be bound", id="a bound admin"),
        pytest.param(["list", "--file", "gone.json"], 2, "no keys file gone.json", id="a file that is not there"),
        pytest.param(["list", "--file", "bad.json"], 2, "keys.0: ", id="a malformed file"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    run(capsys, "add", "a", "--role", "read")
    Path("bad.json").write_text('{"keys": [7]}')
    out, err = run(capsys, *arguments, code=code)
    assert (out, says in err) == ("", True), err
    assert "Traceback" not in err
    assert [key.name for key in read_keys(Path("keys.json"))] == ["a"]


@pytest.mark.parametrize("arguments", [["add", "a", "--role", "read"], ["list"], ["revoke", "a"]], ids=" ".join)
def test_without_a_file_the_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.delenv("BUDGET_API_KEYS_FILE")
    _, err = run(capsys, *arguments, code=2)
    assert err.startswith("error: BUDGET_API_KEYS_FILE is not set")
