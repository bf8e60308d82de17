"""Lists as tables, JSON and CSV: nothing is lost, nothing commands the terminal."""

from __future__ import annotations

import csv
import io
import json

import pytest

from budget_bus.cli.render import Format, printable, show

COLUMNS = {"Name": "name", "Scope": "scope", "Spent": "spent"}
ROWS = [
    {"name": "a,b", "scope": {"component": "x"}, "spent": "1.5", "more": 1},
    {"name": "c\n\x1b[31m", "scope": {}, "spent": None},
]


def test_json_is_a_bare_list_of_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_csv_is_headed_by_the_keys_and_quotes_what_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, Format.CSV)
    read = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert read == [["name", "scope", "spent"], ["a,b", '{"component":"x"}', "1.5"], ["c\n\x1b[31m", "", ""]]


def test_a_table_has_every_row_and_spells_control_characters_out(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, Format.TABLE)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[31m" in out
    assert '{"component":"x"}' in out


def test_a_long_cell_is_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"name": "x" * 500}], {"Name": "name"}, Format.TABLE)
    assert "x" * 500 in capsys.readouterr().out


@pytest.mark.parametrize("form", [Format.JSON, Format.CSV, Format.TABLE])
def test_an_empty_list_is_still_what_was_asked_for(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    show([], {"Name": "name"}, form, empty="nobody")
    said = capsys.readouterr()
    expected = {Format.JSON: ("[]\n", ""), Format.CSV: ("name\n", ""), Format.TABLE: ("", "nobody\n")}
    assert (said.out, said.err) == expected[form]


def test_newline_and_tab_stay_and_the_rest_is_spelled_out() -> None:
    assert printable("a\n\tb\x00\x9b\u202eé") == "a\n\tb\\x00\\x9b\\u202eé"
