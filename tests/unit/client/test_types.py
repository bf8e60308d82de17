"""Programs that use the clients are type-checked by what is published with them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
from collections.abc import AsyncIterator

from budget.client import AsyncBudgetClient, BudgetClient

client = BudgetClient(host="localhost", port=8013, spool="usage.jsonl", on_unavailable="deny")
allowed, info = client.check_budget(provider="openai", model="gpt-4o", component="c", estimated_tokens=1000)
reveal_type(allowed)
reveal_type(client.record_usage(provider="openai", model="gpt-4o", component="c", input_tokens=1, output_tokens=1))
reveal_type(client.flush())
with client.guard(provider="openai", model="gpt-4o", component="c", estimated_tokens=1000) as call:
    for chunk in call.stream([b"chunk"]):
        reveal_type(chunk)


async def use(chunks: AsyncIterator[float]) -> None:
    async with AsyncBudgetClient() as other:
        async with other.guard(provider="openai", model="gpt-4o", component="c", estimated_tokens=1000) as call:
            async for chunk in call.stream(chunks):
                reveal_type(chunk)


BudgetClient(on_unavailable="ignore")
"""


def test_both_packages_say_that_they_are_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in ("budget_bus", "budget"))


def test_a_strict_program_passes_and_a_wrong_word_is_seen(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    ).stdout
    assert re.findall(r'Revealed type is "([^"]+)"', told) == ["bool", "dict[str, Any]", "int", "bytes", "float"]
    (wrong,) = re.findall(r"^.*error: .*$", told, re.MULTILINE)
    assert '"ignore"' in wrong or "'ignore'" in wrong
