"""The SQL files: every one loads, every name is there once, and each is used, from the module that loads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest

import budget_bus
from budget_bus.store.sql import queries

FOLDER = resources.files("budget_bus.store") / "queries"
FILES = sorted(entry.name.removesuffix(".sql") for entry in FOLDER.iterdir() if entry.name.endswith(".sql"))
PACKAGE = Path(budget_bus.__file__).parent


def sources() -> dict[str, str]:
    """Every module of the package."""
    found = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in found}


def used(modules: Mapping[str, str]) -> set[tuple[str, str]]:
    """(file, name) of every query that *modules* take: `X = queries("file")` and then `X["name"]`."""
    found = set()
    for text in modules.values():
        if "queries(" not in text:
            continue
        tree = ast.parse(text)
        loaded = {
            node.targets[0].id: node.value.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "queries"
            and isinstance(node.value.args[0], ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in loaded:
                # A condition between two names, `X["a" if ... else "b"]`, takes both; what it compares is no name.
                choices = [node.slice.body, node.slice.orelse] if isinstance(node.slice, ast.IfExp) else [node.slice]
                names = [choice.value for choice in choices if isinstance(choice, ast.Constant)]
                found |= {(str(loaded[node.value.id]), str(name)) for name in names}
    return found


def defined() -> set[tuple[str, str]]:
    return {(file, name) for file in FILES for name in queries(file)}


@pytest.mark.parametrize("file", FILES)
def test_every_file_of_queries_loads(file: str) -> None:
    found = queries(file)
    assert found
    for name, sql in found.items():
        code = re.sub(r"--.*", "", sql).strip()
        assert re.match(r"(SELECT|SET LOCAL|INSERT|UPDATE|DELETE|WITH|CREATE TEMPORARY TABLE)\b", code), name
        assert ";" not in code, f"{name} is more than one statement"


@pytest.mark.parametrize("file", FILES)
def test_every_name_is_there_once(file: str) -> None:
    text = (FOLDER / f"{file}.sql").read_text(encoding="utf-8")
    names = re.findall(r"^\s*--\s*name\s*:\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    assert len(set(names)) == len(names)
    # A heading that the loader does not know would make its statement a part of the one before.
    assert set(names) == set(queries(file))


@pytest.mark.parametrize("file", FILES)
def test_the_parameters_of_a_query_are_numbered_without_a_gap(file: str) -> None:
    for name, sql in queries(file).items():
        numbers = {int(number) for number in re.findall(r"\$(\d+)", re.sub(r"--.*", "", sql))}
        assert numbers == set(range(1, len(numbers) + 1)), name


def test_no_query_is_an_orphan() -> None:
    assert sorted(defined() - used(sources())) == []


def test_no_module_takes_a_query_that_is_not_there() -> None:
    assert sorted(used(sources()) - defined()) == []


def test_the_search_for_orphans_sees_what_is_used() -> None:
    module = 'A = queries("fence")\nA["take"]\nA["rewind" if x == "no" else "advance"]\nother["watermark"]\n'
    assert used({"a.py": module}) == {("fence", "take"), ("fence", "rewind"), ("fence", "advance")}
    assert used({"a.py": module.replace("queries(", "other(")}) == set()


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        queries("nothing")
