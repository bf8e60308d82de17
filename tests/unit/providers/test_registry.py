"""All providers in one place: ours, those of other packages, and plugins that do not work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from budget_bus.policy.pricing import Price, PriceStatus
from budget_bus.providers import names, prices, registry, tokens
from budget_bus.providers.adapters import BUILT_IN
from budget_bus.providers.base import BaseProvider, Tier, free_price
from budget_bus.providers.counting import count_with
from budget_bus.providers.registry import GROUP, load, provider_of, squashed
from budget_bus.providers.vocabularies import Vocabulary

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "providers.md").read_text()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Acme(BaseProvider):
    """A provider of another package."""

    name = "acme"
    aliases = ("Acme.AI",)


class Thief(BaseProvider):
    """One that would read OpenAI's responses."""

    name = "thief"
    aliases = ("open-ai",)


class Shouting(BaseProvider):
    """One whose name is not a stored one."""

    name = "ACME"


class Nameless(BaseProvider):
    """One that forgot."""


class Clumsy(BaseProvider):
    """One whose every answer fails."""

    name = "clumsy"

    def price(self, model: str, at: datetime, service_tier: str) -> Price | None:
        raise RuntimeError("no price")

    def vocabulary(self, model: str) -> Vocabulary:
        raise RuntimeError("no vocabulary")

    def tier(self, model: str) -> Tier:
        raise RuntimeError("no tier")


not_a_provider = object()


def exits() -> BaseProvider:
    """What a module does that ends the process when it is used."""
    raise SystemExit(3)


class Exits(BaseProvider):
    """One that ends the process."""

    name = "exits"

    def __init__(self) -> None:
        exits()


def entry(name: str, value: str) -> EntryPoint:
    # pytest's importlib mode gives this module another name than a package would have.
    return EntryPoint(name, f"{__name__}:{value}", GROUP)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Acme and Clumsy as plugins of this process, for the length of a test."""
    made = load(BUILT_IN, [entry("acme", "Acme"), entry("clumsy", "Clumsy")])
    caches = (names.canonical_provider, names.tier_of, tokens.vocabulary_of)
    monkeypatch.setattr(registry, "registry", lambda: made)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_no_two_of_ours_claim_the_same_name() -> None:
    made = load(BUILT_IN, [])
    assert len(made.providers) == len(BUILT_IN)
    assert set(made.origins.values()) == {"budget_bus"}
    for name, provider in made.providers.items():
        assert made.aliases[squashed(name)] == name == provider.name


def test_a_plugin_is_one_of_the_providers() -> None:
    made = load(BUILT_IN, [entry("acme", "Acme")])
    assert made.broken == {}
    assert isinstance(made.providers["acme"], Acme)
    assert made.aliases["acmeai"] == "acme"
    assert made.origins["acme"] != "budget_bus"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("gone", "AttributeError", id="it has no such name"),
        pytest.param("not_a_provider", "is not a BaseProvider", id="it is something else"),
        pytest.param("Exits", "SystemExit", id="it ends the process"),
        pytest.param("Thief", "belongs to openai", id="it claims a name of ours"),
        pytest.param("Shouting", "in lower case", id="its name would not be stored as it is"),
        pytest.param("Nameless", "None is no name", id="it has no name"),
    ],
)
def test_a_broken_plugin_is_left_out_logged_and_shown_and_stops_nobody(value: str, reason: str) -> None:
    with capture_logs() as logged:
        made = load(BUILT_IN, [entry("bad", value), entry("worse", "Acme")])
    assert set(made.providers) == {provider.name for provider in BUILT_IN} | {"acme"}
    [(label, why)] = made.broken.items()
    assert label.startswith("bad = ")
    assert reason in why
    assert [line["entry_point"] for line in logged] == [label]


def test_a_module_that_is_not_there_is_left_out() -> None:
    made = load(BUILT_IN, [EntryPoint("lost", "budget_bus_lost:Lost", GROUP)])
    assert "ModuleNotFoundError" in made.broken["lost = budget_bus_lost:Lost"]


def test_of_two_plugins_with_one_name_the_first_by_name_stays() -> None:
    made = load([], [entry("b", "Acme"), entry("a", "Acme")])
    assert list(made.broken) == [f"b = {__name__}:Acme"]


@pytest.mark.usefixtures("plugged")
def test_a_plugin_that_fails_later_is_answered_for_by_the_defaults() -> None:
    with capture_logs() as logged:
        assert names.tier_of("clumsy", "gpt-4o") == "remote_heavyweight"
        assert tokens.vocabulary_of("clumsy", "gpt-4o") is tokens.O200K
        assert prices.PriceBook().price("clumsy", "m", NOW) is None
    assert [line["asked"] for line in logged] == ["tier", "vocabulary", "price"]


@pytest.mark.usefixtures("plugged")
def test_a_plugin_s_names_are_the_stored_ones() -> None:
    assert names.canonical_provider("ACME ai") == "acme"
    assert names.price_book_id("acme") == "acme"


def test_an_unknown_provider_has_the_defaults_under_its_own_name() -> None:
    unknown = provider_of("Some  Gateway")
    assert unknown.name == "some gateway"
    assert unknown.tier("llama-70b") == "remote_heavyweight"
    assert unknown.price("m", NOW, "standard") is None


def test_a_price_of_the_provider_s_own_goes_before_the_book() -> None:
    price = prices.PriceBook().price("ollama", "gpt-4o", NOW)
    assert price == free_price("local model")
    assert price.status is PriceStatus.FREE


def test_a_tokenizer_of_one_s_own_counts() -> None:
    counted = count_with(Vocabulary("words", exact=True, counter=lambda text: len(text.split())), "one two three")
    assert (counted.tokens, counted.source) == (3, "exact")


def _block(kind: str, holding: str) -> str:
    return next(code for code in re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.S | re.M) if holding in code)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The guide's package as an installer leaves it, and the environment that finds it."""
    project = tomllib.loads(_block("toml", "entry-points"))["project"]
    (tmp_path / "budget_bus_acme.py").write_text(_block("python", "class Acme"))
    (tmp_path / "test_acme.py").write_text(_block("python", "def test_"))
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}


def _python(*arguments: str, environ: dict[str, str], at: Path) -> tuple[int, str]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=at, env=environ, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_guide_s_provider_is_found_and_used(installed: dict[str, str], tmp_path: Path) -> None:
    status, said = _python("-m", "budget_bus.providers", environ=installed, at=tmp_path)
    assert status == 0, said
    assert "acme  from budget-bus-acme  also acme.ai" in said
    status, said = _python("-m", "pytest", "-q", "test_acme.py", environ=installed, at=tmp_path)
    assert status == 0, said
    assert "2 passed" in said


def test_without_its_entry_point_the_guide_s_provider_is_not_used(installed: dict[str, str], tmp_path: Path) -> None:
    next(tmp_path.glob("*.dist-info/entry_points.txt")).unlink()
    status, said = _python("-m", "pytest", "-q", "test_acme.py", environ=installed, at=tmp_path)
    assert status == 1
    assert "2 failed" in said


def test_a_broken_package_is_named_by_the_command(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "budget_bus_acme.py").write_text("raise RuntimeError('half installed')\n")
    status, said = _python("-m", "budget_bus.providers", environ=installed, at=tmp_path)
    assert status == 1
    assert "LEFT OUT  acme = budget_bus_acme:Acme: RuntimeError: half installed" in said
    assert "openai  from budget_bus" in said
