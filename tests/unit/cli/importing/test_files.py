"""Files of all kinds of layouts give their rows with the lines they begin on."""

from __future__ import annotations

from pathlib import Path

import pytest

from budget_bus.cli.importing.files import FileFormat, look_at
from budget_bus.errors import Rejected


def _file(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("a,b\n1,2\n", [(2, {"a": "1", "b": "2"})], id="plain"),
        pytest.param("a,b\r\n1,2", [(2, {"a": "1", "b": "2"})], id="from Windows, without an end of line"),
        pytest.param("\ufeffa;b\n1;2\n", [(2, {"a": "1", "b": "2"})], id="semicolons and a byte order mark"),
        pytest.param("a\tb\n1\t2,5\n", [(2, {"a": "1", "b": "2,5"})], id="tabs"),
        pytest.param('a,b\n"x\ny",2\n3,4\n', [(2, {"a": "x\ny", "b": "2"}), (4, {"a": "3", "b": "4"})],
                     id="a quoted cell over two lines"),
        pytest.param("\n a , b \n\n1,2\n\n,\n", [(4, {"a": "1", "b": "2"})], id="blank lines and rows"),
        pytest.param("a,b\n", [], id="only a header"),
    ],
)  # fmt: skip
def test_csv(tmp_path: Path, text: str, rows: list[tuple[int, dict[str, str]]]) -> None:
    file = look_at(_file(tmp_path / "x", text), FileFormat.AUTO)
    assert file.form is FileFormat.CSV
    assert [(row.line, row.cells) for row in file.rows()] == rows
    assert list(file.rows()) == list(file.rows())


def test_jsonl_finds_nested_columns_and_keeps_amounts_exact(tmp_path: Path) -> None:
    file = look_at(_file(tmp_path / "x", '{"cost": 0.1, "usage": {"in": 3}}\n\n{"user": null}\n'), FileFormat.AUTO)
    assert file.form is FileFormat.JSONL
    assert file.columns() == ("cost", "usage", "usage.in", "user")
    first, second = file.rows()
    assert (str(first.cells["cost"]), first.line, second.line) == ("0.1", 1, 3)


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        pytest.param("a,b\n1\n", FileFormat.CSV, "has 1 cells, but the header has 2", id="a cell is missing"),
        pytest.param("a,b\n1,2,3\n", FileFormat.CSV, "has 3 cells", id="a cell too many"),
        pytest.param("{oops}\n", FileFormat.JSONL, "is not JSON", id="not JSON"),
        pytest.param("[1]\n", FileFormat.JSONL, "is not a JSON object", id="a list"),
        pytest.param('{"a": NaN}\n', FileFormat.JSONL, "NaN is no JSON number", id="not a number"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(tmp_path: Path, text: str, form: FileFormat, problem: str) -> None:
    (row,) = look_at(_file(tmp_path / "x", text), form).rows()
    assert problem in (row.problem or "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(b"", "is empty", id="nothing in it"),
        pytest.param(b"a,a\n1,2\n", "column 'a' is there twice", id="two columns of one name"),
        pytest.param(b"a,b\n\xff,2\n", "is not UTF-8", id="another encoding"),
        pytest.param(b'a,b\n"1,2\n', "cannot be read as CSV", id="a quote that never ends"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: bytes, says: str) -> None:
    with pytest.raises(Rejected, match=says):
        list(look_at(_file(tmp_path / "x", text), FileFormat.CSV).rows())
