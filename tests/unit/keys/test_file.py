"""The keys file: nothing in it is a key, nothing is lost, and what is wrong with it is named."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from budget_bus.errors import ConfigError, Conflict, NotFound, Rejected
from budget_bus.keys import file as keys_file
from budget_bus.keys.file import Key, add_key, make_key, read_keys, revoke_key
from budget_bus.keys.key import PREFIX, KeyRole, digest_of, new_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROW: dict[str, Any] = {
    "name": "ops",
    "roles": ["admin"],
    "created_at": "2026-03-01T00:00:00Z",
    "sha256": digest_of("bdgt_x"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def made(name: str, *roles: KeyRole, components: tuple[str, ...] = ()) -> Key:
    return make_key(new_key(), name=name, roles=roles or (KeyRole.READ,), components=components, created_at=NOW)


def test_keys_are_long_random_and_recognisable() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)


def test_what_was_added_is_read_again_without_what_was_revoked(path: Path) -> None:
    rhetor = made("rhetor", KeyRole.RECORD, KeyRole.CHECK, components=("rhetor", "two words"))
    ops = made("ops", KeyRole.ADMIN)
    add_key(path, rhetor)
    add_key(path, ops)
    assert read_keys(path) == [rhetor, ops]
    revoke_key(path, "rhetor")
    assert read_keys(path) == [ops]
    revoke_key(path, "ops")
    assert read_keys(path) == []


def test_the_file_is_its_owners_and_has_no_key_in_it(path: Path) -> None:
    text = new_key()
    add_key(path, make_key(text, name="a", roles=[KeyRole.READ], components=[], created_at=NOW))
    path.chmod(0o644)
    add_key(path, made("b"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert text not in path.read_text()
    assert digest_of(text) in path.read_text()
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_link_is_followed_and_stays_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    add_key(link, made("a"))
    assert link.is_symlink()
    assert [key.name for key in read_keys(path)] == ["a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_stays_its_owners_when_root_changes_it(path: Path) -> None:
    add_key(path, made("a"))
    os.chown(path, 12345, 12346)
    revoke_key(path, "a")
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12346, 0o600)


def test_a_name_that_is_taken_or_that_nobody_has_changes_nothing(path: Path) -> None:
    add_key(path, made("a"))
    before = path.read_bytes()
    with pytest.raises(Conflict, match="'a' already"):
        add_key(path, made("a"))
    with pytest.raises(NotFound, match="no key 'b'"):
        revoke_key(path, "b")
    assert path.read_bytes() == before


def test_a_disk_that_takes_nothing_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(path, made("a"))

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left on device; nothing was changed"):
        add_key(path, made("b"))
    assert [key.name for key in read_keys(path)] == ["a"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"name": "a b"}, "name", id="a name with a blank"),
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"name": "-a"}, "name", id="a name like an option"),
        pytest.param({"name": "a" * 101}, "name", id="a name too long"),
        pytest.param({"roles": []}, "roles", id="no role"),
        pytest.param({"components": ["a", " "]}, "components.1", id="a component without a name"),
        pytest.param({"components": ["a"], "roles": [KeyRole.ADMIN]}, "", id="an admin bound to components"),
    ],
)
def test_a_key_that_cannot_be_made_names_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(Rejected) as told:
        make_key("x", **{"name": "a", "roles": [KeyRole.READ], "components": [], "created_at": NOW, **fields})
    assert [error.field for error in told.value.errors] == [named]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "line 1 column 0", id="nothing"),
        pytest.param('{"keys": [\n  {]}', "line 2 column", id="a comma or bracket wrong"),
        pytest.param("[]", "an object", id="a list"),
        pytest.param("{}", "keys: Field required", id="an object without keys"),
        pytest.param(
            {"keys": [ROW, {**ROW, "roles": ["boss"]}]}, "keys.1.roles.0: Input should be 'record'", id="role"
        ),
        pytest.param({"keys": [{**ROW, "roles": []}]}, "keys.0.roles: ", id="no roles"),
        pytest.param({"keys": [{**ROW, "role": "x"}]}, "keys.0.role: Extra", id="a misspelt field"),
        pytest.param({"keys": [{**ROW, "sha256": "bdgt_x"}]}, "keys.0.sha256: ", id="the key itself for its hash"),
        pytest.param({"keys": [{**ROW, "created_at": "2026-03-01T00:00:00"}]}, "keys.0.created_at: ", id="no zone"),
        pytest.param(
            {"keys": [{**ROW, "roles": ["read"], "components": []}]}, "keys.0.components: ", id="bound to none"
        ),
        pytest.param({"keys": [{**ROW, "components": ["a"]}]}, "role admin cannot be bound", id="a bound admin"),
        pytest.param(
            {"keys": [ROW, {**ROW, "sha256": "0" * 64}]}, "name ops is there more than once", id="a name twice"
        ),
        pytest.param({"keys": [ROW, {**ROW, "name": "two"}]}, "the same sha256", id="a hash twice"),
        pytest.param({"keys": [{**ROW, "name": 7}] * 9}, "(and 6 more)", id="more than anybody reads"),
    ],
)
def test_a_malformed_file_names_the_place_and_what_to_do_and_is_not_overwritten(
    path: Path, content: Any, says: str
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)
    for touch in (lambda: read_keys(path), lambda: add_key(path, made("a")), lambda: revoke_key(path, "ops")):
        with pytest.raises(ConfigError) as told:
            touch()
        assert says in str(told.value)
        assert str(path) in str(told.value)
        assert "mend it there" in str(told.value)
        assert "\n" not in str(told.value)
    assert path.read_text() == text


def test_bytes_that_are_no_text_are_malformed(path: Path) -> None:
    path.write_bytes(b'{"keys": "\xff"}')
    with pytest.raises(ConfigError, match="is malformed"):
        read_keys(path)


def test_a_file_that_is_not_there_or_cannot_be_read_is_said(path: Path) -> None:
    for touch in (read_keys, lambda path: revoke_key(path, "a")):
        with pytest.raises(ConfigError, match=r"no keys file .*; `budget keys add"):
            touch(path)
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read_keys(path)
    with pytest.raises(ConfigError, match="cannot lock"):
        add_key(path.parent / "gone" / "keys.json", made("a"))


def _add_at_once(path: Path, count: int) -> None:
    threads = [threading.Thread(target=add_key, args=(path, made(f"k{i}"))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_keys_that_are_added_at_once_are_all_kept(path: Path) -> None:
    _add_at_once(path, 16)
    assert len(read_keys(path)) == 16


def test_without_the_lock_one_would_be_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(path, made("first"))
    both_have_read = threading.Barrier(2, timeout=30)

    def read_and_wait(path: Path) -> list[Key]:
        keys = read_keys(path)
        both_have_read.wait()
        return keys

    @contextmanager
    def unlocked(_path: Path) -> Iterator[None]:
        yield

    monkeypatch.setattr(keys_file, "read_keys", read_and_wait)
    monkeypatch.setattr(keys_file, "_locked", unlocked)
    _add_at_once(path, 2)
    assert len(read_keys(path)) == 2
