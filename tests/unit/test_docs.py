"""The documents speak of what is there: links, files, tests, settings, commands, make targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic_core import PydanticUndefined

from budget_bus.cli import app
from budget_bus.events.topics import TOPICS
from budget_bus.roles import ROLES
from budget_bus.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES)
_ALLOCATION = "<COMPONENT>_ALLOCATION"

# Read from the environment by what is not a process of the service: the tests, `budget up` and the commands; and what
# a command's help calls its argument.
_NO_SETTINGS = {
    "BUDGET_REQUIRE_KAFKA",
    "BUDGET_REQUIRE_CHROMIUM",
    "BUDGET_TEST_KAFKA_BOOTSTRAP_SERVERS",
    "BUDGET_TEST_SCHEMATHESIS_EXAMPLES",
    "BUDGET_API_KEY",
    "BUDGET_ID",
}
_COMMAND: Any = typer.main.get_command(app)

# Paths in backquotes that are no files of the repository: they are made, or are somebody else's.
_MADE = {".venv", ".budget", ".env.budget", ".budget/logs", "~/.cache", "bench/results/"}
_FOLDERS = ("budget_bus/", "budget/", "tests/", "schemas/", "deploy/", "bench/", "docs/", ".ci/")


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names that headings can be linked by, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(text: str, root: Path = ROOT) -> list[str]:
    """Local links of a document in *root* that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = root / file
        there = (
            target.read_text(encoding="utf-8") if target.is_file() and target.suffix == ".md" else "" if file else text
        )
        if not target.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    return broken


def missing_files(text: str, root: Path = ROOT) -> list[str]:
    """Files in backquotes, with a folder before them, that do not exist; `*` stands for at least one."""
    named = re.findall(r"`([\w.*-]+(?:/[\w.*-]+)*/?)`", text)
    return [
        name
        for name in named
        if name.startswith(_FOLDERS) and name not in _MADE and not any(root.glob(name.rstrip("/")))
    ]


def missing_tests(text: str, root: Path = ROOT) -> list[str]:
    """`folder/test_file.py`, below tests/, that do not exist, and tests `...::test_name` that they do not have."""
    missing = [
        name
        for name in re.findall(r"`((?:unit|integration)/[\w/]+\.py)`", text)
        if not (root / "tests" / name).is_file()
    ]
    for name in re.findall(r"`([\w/]*test_\w+\.py::test_\w+)`", text):
        file, _, test = name.partition("::")
        path = root / "tests" / file
        if not path.is_file() or not re.search(rf"^(async )?def {test}\(", path.read_text(encoding="utf-8"), re.M):
            missing.append(name)
    return missing


def table_of_settings(text: str) -> dict[str, str]:
    """Name -> default, of every row of README's tables of settings."""
    section = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([A-Z_<>0-9]+)` \| ([^|]+?) \|", section, re.MULTILINE))


def unused_of(text: str) -> set[str]:
    """The settings of the table that says that nothing uses them."""
    section = text.partition("nothing uses them yet:")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z_<>0-9]+)` \|", section, re.MULTILINE))


def real_settings() -> dict[str, str]:
    """Every variable that the settings read, with its default as the table writes it."""
    found = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        if default is None or default is PydanticUndefined:
            written = "none"
        elif isinstance(default, bool):
            written = f"`{str(default).lower()}`"
        else:
            written = f"`{default}`" if str(default) else "empty"
        found[variable_of(name) or _ALLOCATION] = written
    return found


def differences(table: dict[str, str], real: dict[str, str]) -> list[str]:
    """Settings that one has and the other has not, or with another default."""
    return sorted(
        f"{name}: README says {table.get(name)}, the settings {real.get(name)}"
        for name in table.keys() | real.keys()
        if table.get(name) != real.get(name)
    )


def unknown_settings(text: str) -> set[str]:
    """Variables named BUDGET_... that nothing reads; one that ends with an underscore stands for at least one."""
    known = real_settings().keys() | _NO_SETTINGS
    named = set(re.findall(r"(?<![A-Za-z0-9_])BUDGET_[A-Z0-9_]+", text))
    return {
        name
        for name in named - known
        if not (name.endswith("_") and any(setting.startswith(name) for setting in known))
    }


def _commands(text: str) -> Iterator[list[str]]:
    """What is written as a command of `budget`, in words: in backquotes, and line by line in blocks of commands."""
    written = re.findall(r"`budget ([a-z][^`]*)`", _prose(text))
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        written += re.findall(r"^(?:[A-Z_]+=\S+ )*budget ([a-z].*)", block.replace("\\\n", " "), re.MULTILINE)
    yield from (command.split() for command in written)


def unknown_commands(text: str) -> set[str]:
    """Commands and options that do not exist; of several names in one (`a|b`) each is looked at."""
    unknown = set()
    for words in _commands(text):
        paths = [[first] for first in words[0].split("|")]
        for word in words[1:]:
            if not paths or not _goes_on(paths[0], word):
                break
            paths = [[*path, one] for path in paths for one in word.split("|")]
        for path in paths:
            options = _options(path)
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            unknown |= {" ".join(path)} if options is None else {" ".join([*path, one]) for one in given - options}
    return unknown


def _goes_on(path: Iterable[str], word: str) -> bool:
    """Whether a word behind the command *path* must name one of its commands; one that works alone may have none."""
    found = _COMMAND
    for name in path:
        found = getattr(found, "commands", {}).get(name)
    commands = getattr(found, "commands", None)
    if not commands:
        return False
    return not found.invoke_without_command or all(one in commands for one in word.split("|"))


def _options(path: Iterable[str]) -> set[str] | None:
    """The options of a command, None if there is none of that name."""
    found = _COMMAND
    for name in path:
        found = getattr(found, "commands", {}).get(name)
        if found is None:
            return None
    return {
        "--help",
        *(option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)),
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_local_link_leads_somewhere(document: str) -> None:
    assert broken_links(_text(document), (ROOT / document).parent) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_that_is_named_exists(document: str) -> None:
    assert unknown_settings(_text(document)) == set()


def test_a_setting_that_does_not_exist_is_seen() -> None:
    text = "`BUDGET_PORT` `BUDGET_KAFKA_*` `BUDGET_COLOUR_*`\n```bash\nexport BUDGET_PROT=1\n```\n`DAILY_BUDGET_LIMIT`"
    assert unknown_settings(text) == {"BUDGET_COLOUR_", "BUDGET_PROT"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_named_exists(document: str) -> None:
    assert unknown_commands(_text(document)) == set()


def test_a_command_or_option_that_does_not_exist_is_seen() -> None:
    text = "`budget db chekc` `budget config get|sett x` `budget db check --repair --fast` `budget up`\n"
    text += "```bash\nbudget forecost\nA=1 budget import x --set a=b \\\n  --nap c=d\n```\n"
    assert unknown_commands(text) == {"db chekc", "config sett", "db check --fast", "forecost", "import --nap"}


def test_operators_are_told_of_every_metric_every_alert_rule_and_every_role() -> None:
    text = _text("docs/operators.md")
    metrics = re.findall(r'"(budget_bus_\w+)"', (ROOT / "budget_bus" / "metrics.py").read_text())
    rules = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "prometheus-rules.yml").read_text())
    assert {
        name for name in (*metrics, *rules, *ROLES) if f"| `{name}`" not in text and f", `{name}`" not in text
    } == set()


def test_authors_are_told_of_every_topic() -> None:
    text = _text("docs/component_authors.md")
    assert {spec.name for spec in TOPICS if not spec.name.endswith(".dlq") and f"`{spec.name}`" not in text} == set()


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+)\)", _text("README.md")))
    assert set(PAGES) - {"docs/price-comparison.md"} - linked == set()


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One thing\n")
    text = "[a](there.md) [b](there.md#one-thing) [c](gone.md) [d](there.md#gone) [e](#gone) [f](https://example.com/x)"
    assert broken_links(text, tmp_path) == ["gone.md", "there.md#gone", "#gone"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document: str) -> None:
    assert missing_files(_text(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    assert missing_tests(_text(document)) == []


def test_a_missing_file_or_test_is_seen() -> None:
    text = "`budget_bus/gone.py` `budget_bus/store/*.py` `unit/test_docs.py::test_gone` `unit/test_gone.py::test_x`"
    assert missing_files(text) == ["budget_bus/gone.py"]
    assert missing_tests(text) == ["unit/test_docs.py::test_gone", "unit/test_gone.py::test_x"]


def test_every_package_has_its_place_in_the_architecture() -> None:
    named = set(re.findall(r"`([\w.*/-]+)`", _text("ARCHITECTURE.md")))
    packages = {f"budget_bus/{path.parent.name}/" for path in ROOT.glob("budget_bus/*/__init__.py")}
    assert {package for package in packages if not any(name.startswith(package) for name in named)} == set()


def test_the_table_of_settings_is_true() -> None:
    assert differences(table_of_settings(_text("README.md")), real_settings()) == []


def test_a_wrong_row_of_settings_is_seen() -> None:
    real = real_settings()
    table = {name: default for name, default in real.items() if name != "BUDGET_PORT"}
    table |= {"BUDGET_HOST": "`0.0.0.0`", "BUDGET_COLOUR": "`red`"}
    assert [line.split(":")[0] for line in differences(table, real)] == ["BUDGET_COLOUR", "BUDGET_HOST", "BUDGET_PORT"]


def test_the_settings_that_nothing_uses_are_those_that_readme_says() -> None:
    """When this fails for a setting that works now: move its row to the table above."""
    modules: Iterable[Path] = (ROOT / "budget_bus").rglob("*.py")
    code = "\n".join(path.read_text(encoding="utf-8") for path in modules if path.name != "settings.py")
    unused = {
        variable_of(name) or _ALLOCATION
        for name in Settings.model_fields
        if not re.search(rf"\bsettings\.{name}\b", code)
    }
    assert unused_of(_text("README.md")) == unused


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", _text(document), re.MULTILINE))
    assert named - targets == set()
