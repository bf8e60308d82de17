"""What is running where: the lock, `run.json` and free ports."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from budget_bus.errors import BudgetUnavailable
from budget_bus.local import ports, state

_STACK = state.RunningStack(
    pid=os.getpid(),
    started=state.process_started(os.getpid()) or "",
    url="http://127.0.0.1:8013",
    bootstrap_servers="127.0.0.1:9092",
    kafka_kind="apache",
    database_url="postgresql://budget:secret@127.0.0.1/budget",
    metrics_ports={"settler": 9101},
)


def test_a_running_stack_is_found(tmp_path: Path) -> None:
    state.write(tmp_path, _STACK)
    assert state.running(tmp_path) == _STACK
    state.remove(tmp_path)
    assert state.running(tmp_path) is None


def test_only_the_owner_reads_the_password(tmp_path: Path) -> None:
    state.write(tmp_path, _STACK)
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600


def test_a_stack_whose_process_is_gone_does_not_run(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as gone:
        pass
    state.write(tmp_path, replace(_STACK, pid=gone.pid))
    assert state.running(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are read from /proc")
def test_another_process_with_the_same_number_is_not_the_stack(tmp_path: Path) -> None:
    state.write(tmp_path, replace(_STACK, started="1"))
    assert state.running(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_file_is_no_stack(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert state.running(tmp_path) is None


def test_a_second_start_in_the_same_directory_is_told_of_the_first(tmp_path: Path) -> None:
    with state.locked(tmp_path):
        state.write(tmp_path, _STACK)
        with (
            pytest.raises(
                BudgetUnavailable, match=rf"runs already in .* at http://127.0.0.1:8013 \(process {os.getpid()}\)"
            ),
            state.locked(tmp_path),
        ):
            pass
    with state.locked(tmp_path):
        pass


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.free_port(preferred=port) != port
    assert ports.is_free(port)


def test_a_port_is_remembered_while_it_is_free(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "port"
    port = ports.remembered_port(file)
    assert ports.remembered_port(file) == port
    with socket.create_server(("127.0.0.1", port)):
        moved = ports.remembered_port(file)
    assert moved != port
    assert ports.remembered_port(file) == moved
