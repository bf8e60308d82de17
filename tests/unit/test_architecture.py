"""Imports point one way, and the contract that says so bites."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(tree: Path) -> tuple[int, str]:
    # A fresh process on another tree: import-linter finds the packages by the path, and must not find ours.
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("budget_bus", "budget"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_imports_point_one_way() -> None:
    status, said = lint_imports(ROOT)
    assert status == 0, said


@pytest.mark.parametrize(
    ("module", "line", "named"),
    [
        pytest.param(
            "policy/decide.py",
            "import budget_bus.events.usage",
            "budget_bus.policy.decide -> budget_bus.events.usage",
            id="a rule that knows the wire",
        ),
        pytest.param(
            "store/ledger.py",
            "from budget_bus.events import fields",
            "budget_bus.store.ledger -> budget_bus.events",
            id="a table that knows the wire",
        ),
        pytest.param(
            "policy/windows.py", "import time", "budget_bus.policy.windows -> time", id="a rule that reads the clock"
        ),
        pytest.param(
            "store/ledger.py",
            "import budget_bus.consumers.loop",
            "budget_bus.store.ledger -> budget_bus.consumers.loop",
            id="a lower layer that knows a higher one",
        ),
        pytest.param(
            "roles.py",
            "import budget_bus.local",
            "budget_bus.roles -> budget_bus.local",
            id="a role that starts a broker",
        ),
        pytest.param(
            "providers/names.py",
            "import budget_bus.store.sql",
            "budget_bus.providers.names -> budget_bus.store.sql",
            id="a provider that reads the books",
        ),
        pytest.param(
            "client/texts.py",
            "from budget_bus.producers import bus",
            "budget_bus.producers.bus -> budget_bus.settings",
            id="a client that carries what only a server needs",
        ),
    ],
)
def test_the_contract_bites(copy: Path, module: str, line: str, named: str) -> None:
    with (copy / "budget_bus" / module).open("a") as file:
        file.write(f"\n{line}\n")
    status, said = lint_imports(copy)
    assert status == 1
    assert named in said


def test_a_new_module_must_be_given_its_place(copy: Path) -> None:
    (copy / "budget_bus" / "utils.py").write_text('"""A place for everything that has none."""\n')
    status, said = lint_imports(copy)
    assert status == 1
    assert "budget_bus.utils" in said
