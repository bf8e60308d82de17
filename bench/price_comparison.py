"""
`python -m bench.price_comparison`: our prices beside litellm's table, class by class; see `--help`.

litellm is not a dependency and its table is not kept here, only the figures that were compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from genai_prices import __version__ as data_version

from budget_bus.errors import BudgetError, ConfigError
from budget_bus.providers.comparison import Compared, Share, compare, share_of, shares_by_provider, told_once
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.second_table import read_second_table

VERSION: Final = "1.109.1"
TABLE: Final = "litellm/model_prices_and_context_window_backup.json"
ROOT: Final = Path(__file__).parents[1]
REASONS: Final = ROOT / "bench" / "price_reasons.toml"
RESULT: Final = ROOT / "bench" / "results" / "price-comparison.jsonl"  # not .json: those are runs of the benchmarks
REPORT: Final = ROOT / "docs" / "price-comparison.md"
# A weekday's hour in which nobody gives a discount for the time of day: what the second table lists first.
INSTANT: Final = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)


class Reason(NamedTuple):
    """Why two figures differ, which one we believe, and what that rests on."""

    believe: str
    reason: str
    source: str = ""


def reason_of(one: Compared, told: Sequence[dict[str, Any]], at: datetime) -> Reason:
    """The reason that the file gives, else that of a rule, else that it is unknown."""
    for entry in told:
        if (
            one.provider == entry["provider"]
            and any(fnmatchcase(one.model, model) for model in entry["models"])
            and any(fnmatchcase(one.token_class, name) for name in entry["classes"])
        ):
            return Reason(entry["believe"], entry["reason"], entry["source"])
    if one.regional:
        return Reason("theirs", "the name says a region, whose own price our data does not have", "the name")
    if one.ends is not None and one.ends <= at.date():
        return Reason("not settled", f"withdrawn on {one.ends}: nothing is charged at either price now", "their table")
    if not one.same_name:
        return Reason("not settled", "unknown; our data has no row of this name and prices it by another row's", "")
    return Reason("not settled", "unknown", "")


def download(version: str) -> bytes:
    """litellm's table out of its wheel, by pip into a folder that is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, f"litellm=={version}", "-d", folder], check=False, capture_output=True)
        wheels = list(Path(folder).glob("litellm-*.whl"))
        if done.returncode or not wheels:
            raise ConfigError(f"pip could not download litellm=={version}; offline, give its table with --table FILE")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(TABLE)


def report(found: Sequence[Compared], reasons: Sequence[dict[str, Any]], at: datetime) -> str:
    """The page: shares, shares by provider, and each disagreement with its reason."""
    same = [one for one in found if one.same_name]
    others = [one for one in found if not one.same_name]
    current = [one for one in same if not _withdrawn(one, at)]
    rows = ["| what | figures | within 1 % | equal | share |", "|---|--:|--:|--:|--:|"]
    rows += [
        _row("rows of the same name, all", share_of(same)),
        _row("of these, without models withdrawn by their table, agreeing or not", share_of(current)),
        _row("names that our data prices by another row", share_of(others)),
        _row("of these, without those that name a region", share_of(one for one in others if not one.regional)),
        _row("all", share_of(found)),
    ]
    by = ["| provider (same name) | figures | within 1 % | equal | share |", "|---|--:|--:|--:|--:|"]
    by += [_row(provider, share) for provider, share in shares_by_provider(same).items()]
    return "\n".join(
        [
            "# Our prices beside a second table",
            "",
            "Made by `python -m bench.price_comparison`; do not edit.",
            f"Ours: genai-prices {data_version}. Theirs: litellm {VERSION}, `{TABLE}`.",
            f"Both at {at.isoformat()}, when no discount for the time of day holds.",
            "A figure is one token class of one model, listed by both; USD per million tokens. Classes that only one",
            "source lists are not counted.",
            "The two are not known to be independent of each other.",
            "",
            *rows,
            "",
            *by,
            "",
            "## Disagreements, rows of the same name",
            "",
            *_disagreements(same, reasons, at),
            "",
            "## Disagreements, names that our data prices by another row",
            "",
            *_disagreements(others, reasons, at),
            "",
        ]
    )


def _withdrawn(one: Compared, at: datetime) -> bool:
    return one.ends is not None and one.ends <= at.date()


def _row(name: str, share: Share) -> str:
    whole, part = divmod(share.basis_points, 100)
    return f"| {name} | {share.compared} | {share.agree} | {share.exact} | {whole}.{part:02d} % |"


def _disagreements(found: Sequence[Compared], reasons: Sequence[dict[str, Any]], at: datetime) -> list[str]:
    rows = ["| provider | model | class | ours | theirs | we believe | reason |", "|---|---|---|--:|--:|---|---|"]
    for one in sorted(one for one in found if not one.agrees):
        why = reason_of(one, reasons, at)
        source = f" ({why.source})" if why.source else ""
        rows.append(
            f"| {one.provider} | `{one.model}` | {one.token_class} | {_per_million(one.ours)} "
            f"| {_per_million(one.theirs)} | {why.believe} | {why.reason}{source} |"
        )
    return rows


def _per_million(picos: int) -> str:
    whole, part = divmod(picos, 10**6)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")


def main() -> int:
    """Exit status 0, or 1 when there is no table to compare with."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.price_comparison",
        description="Compare our prices with litellm's table and write docs/price-comparison.md.",
        epilog="Example: python -m bench.price_comparison --table model_prices.json --no-save",
    )
    parser.add_argument("--table", type=Path, help=f"the table; without it, that of litellm {VERSION} is downloaded")
    parser.add_argument("--no-save", action="store_true", help="print only, write nothing")
    options = parser.parse_args()
    try:
        text = download(VERSION) if options.table is None else options.table.read_bytes()
        found = told_once(compare(read_second_table(text), PriceBook().price, INSTANT))
    except (BudgetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    reasons = tomllib.loads(REASONS.read_text())["reason"]
    page = report(found, reasons, INSTANT)
    if options.no_save:
        print(page)
        return 0
    REPORT.write_text(page)
    kept = [{**one._asdict(), "ends": str(one.ends) if one.ends else None} for one in found if not one.agrees]
    about = {"ours": f"genai-prices {data_version}", "theirs": f"litellm {VERSION}", "at": INSTANT.isoformat()}
    shares = {
        "same_name": share_of(one for one in found if one.same_name)._asdict(),
        "other_name": share_of(one for one in found if not one.same_name)._asdict(),
    }
    lines = [{**about, "shares": shares}, *kept]
    RESULT.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    print(f"written: {REPORT.relative_to(ROOT)}, {RESULT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
