"""A row's id depends on what it says, which of its equals it is, and its source; on nothing else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from budget_bus.cli.importing.files import FileFormat, look_at
from budget_bus.cli.importing.identity import Identity, source_of

ROWS = st.lists(st.binary(max_size=3), max_size=30)


def ids(source: str, rows: list[bytes]) -> list[object]:
    identity = Identity(source)
    return [identity.event_id(row) for row in rows]


@given(ROWS, ROWS)
def test_appending_changes_no_id_and_all_ids_differ(rows: list[bytes], more: list[bytes]) -> None:
    first, longer = ids("s", rows), ids("s", rows + more)
    assert longer[: len(rows)] == first
    assert len(set(longer)) == len(longer)
    assert not set(longer) & set(ids("t", rows + more))


def test_an_id_is_the_same_in_every_release() -> None:
    assert [str(one) for one in ids("a source", [b"row", b"row"])] == [
        "6aa9cdc1-51be-58bb-8249-d71f3363a009",
        "dbf9f7a8-f444-52dd-b15b-26c5c737baeb",
    ]


def _source(path: Path, text: str, form: FileFormat = FileFormat.AUTO) -> str:
    path.write_bytes(text.encode())
    return source_of(look_at(path, form))


def test_a_source_is_its_header_and_first_row(tmp_path: Path) -> None:
    known = _source(tmp_path / "a.csv", "at,in\n1,2\n")
    assert _source(tmp_path / "renamed.csv", "at,in\n1,2\n3,4\n") == known
    assert _source(tmp_path / "windows.csv", "\ufeffat,in\r\n1,2\r\n") == known
    assert _source(tmp_path / "other_header.csv", "at,out\n1,2\n") != known
    assert _source(tmp_path / "other_row.csv", "at,in\n1,3\n") != known


def test_the_layout_of_json_is_not_its_content(tmp_path: Path) -> None:
    known = _source(tmp_path / "a.jsonl", '{"at": 1, "in": 2}\n')
    assert _source(tmp_path / "b.jsonl", '\n{"in":2,"at":1}\n{"at":3}\n') == known
    assert _source(tmp_path / "c.jsonl", '{"at": 1, "in": 3}\n') != known
