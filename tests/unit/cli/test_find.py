"""Where commands find the service: what is set counts, a running `budget up` fills in the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from budget_bus.cli.find import find_service
from budget_bus.errors import ConfigError
from budget_bus.local import state

STACK = {
    "url": "http://127.0.0.1:9013",
    "bootstrap_servers": "127.0.0.1:9092",
    "kafka_kind": "apache",
    "database_url": "postgresql://budget:secret@127.0.0.1:5432/budget",
    "metrics_ports": {},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".budget").mkdir()


def _run_stack(pid: int, started: str | None) -> None:
    state.write(Path(".budget"), state.RunningStack(pid=pid, started=started or "gone", **STACK))


def test_a_running_stack_of_this_directory_is_found() -> None:
    _run_stack(os.getpid(), state.process_started(os.getpid()))
    found = find_service(database=True, kafka=True)
    assert (found.host, found.port, found.kafka_bootstrap_servers) == ("127.0.0.1", 9013, "127.0.0.1:9092")
    assert found.database_url is not None
    assert found.database_url.get_secret_value() == STACK["database_url"]


def test_what_is_set_counts_before_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _run_stack(os.getpid(), state.process_started(os.getpid()))
    monkeypatch.setenv("BUDGET_PORT", "8099")
    monkeypatch.setenv("BUDGET_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    found = find_service(kafka=True)
    assert (found.port, found.kafka_bootstrap_servers) == (8099, "kafka:9092")


def test_a_stack_that_has_ended_is_not_found() -> None:
    _run_stack(os.getpid(), "another process had this number")
    with pytest.raises(ConfigError, match="BUDGET_DATABASE_URL is not set, and no `budget up` is ready in"):
        find_service(database=True)


def test_without_needs_the_defaults_do() -> None:
    assert (find_service().host, find_service().port) == ("127.0.0.1", 8013)
