"""The file of what could not be sent: nothing of it is lost, by a crash, a full disk or another process either."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.client.spool import LIST_EVENTS, Refused, Spool
from budget_bus.errors import BudgetUnavailable

LIMIT = 10_000_000


def event(number: int, **more: Any) -> bytes:
    return json.dumps({"event_id": str(number), **more}).encode()


def numbers(lines: list[bytes]) -> list[int]:
    return [int(json.loads(line)["event_id"]) for line in lines]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", LIMIT)


def test_events_come_back_in_order_and_only_once_after_they_were_dropped(spool: Spool) -> None:
    for number in range(5):
        spool.append(event(number))
    first = spool.read(0)
    assert numbers(first.events) == [0, 1, 2, 3, 4]
    assert spool.wake()
    spool.append(event(5))
    spool.drop(first.end)
    rest = spool.read(0)
    assert numbers(rest.events) == [5]
    spool.drop(rest.end)
    assert not spool.wake()
    assert spool.read(0).events == []


def test_a_line_that_a_crash_has_torn_loses_no_other(spool: Spool) -> None:
    spool.append(event(1))
    with spool.path.open("ab") as file:
        file.write(event(2)[:-3])
    spool.append(event(3))
    found = spool.read(0)
    assert numbers(found.events) == [1, 3]
    assert [(one.line, "torn" in one.reason) for one in found.broken] == [(event(2)[:-3], True)]


def test_a_torn_last_line_is_told_and_dropped_with_the_rest(spool: Spool) -> None:
    spool.append(event(1))
    with spool.path.open("ab") as file:
        file.write(b'{"event_')
    found = spool.read(0)
    assert (numbers(found.events), len(found.broken)) == ([1], 1)
    spool.drop(found.end)
    assert spool.size() == 0


@pytest.mark.parametrize("line", [b"null", b"[]", b"{}", b'{"event_id": ""}', b"\x00\x00\x00", b"\xff\xfe"])
def test_what_is_no_event_is_set_apart(spool: Spool, line: bytes) -> None:
    spool.path.write_bytes(line + b"\n" + event(1) + b"\n\n")
    found = spool.read(0)
    assert (numbers(found.events), [one.line for one in found.broken]) == ([1], [line])
    assert found.end == spool.size()


def test_a_list_has_no_more_events_and_no_more_bytes_than_the_gateway_takes(spool: Spool) -> None:
    for number in range(LIST_EVENTS + 1):
        spool.append(event(number))
    first = spool.read(0)
    assert len(first.events) == LIST_EVENTS
    assert numbers(spool.read(first.end).events) == [LIST_EVENTS]
    spool.drop(spool.size())
    for number in range(3):
        spool.append(event(number, input_text="x" * 2_000_000))
    sizes = []
    end = 0
    while (found := spool.read(end)).events:
        assert len(b"[" + b",".join(found.events) + b"]") <= 4 * 1024 * 1024
        sizes.append(len(found.events))
        end = found.end
    assert sizes == [2, 1]


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 3 * len(event(1)) + 3)
    for number in range(3):
        spool.append(event(number))
    with pytest.raises(BudgetUnavailable, match=r"spool .* is full"):
        spool.append(event(3))
    assert numbers(spool.read(0).events) == [0, 1, 2]


def test_a_disk_that_fails_leaves_no_half_of_an_event(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append(event(1))
    size = spool.size()

    def fail(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(BudgetUnavailable, match="no space left"):
            spool.append(event(2))
    assert spool.size() == size


def test_a_spool_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path / "gone" / "spool", LIMIT)
    with pytest.raises(IsADirectoryError):
        Spool(tmp_path, LIMIT)


def test_others_cannot_read_what_is_spooled(spool: Spool) -> None:
    spool.append(event(1))
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool(Path("spool"), LIMIT)
    monkeypatch.chdir("/")
    spool.append(event(1))
    assert (tmp_path / "spool").exists()


def test_what_is_refused_is_kept_beside_with_its_reason(spool: Spool) -> None:
    spool.reject([Refused(event(1), "model: is required"), Refused(b"\xff", "is not JSON")], "2026-01-01T00:00:00Z")
    spool.reject([Refused(event(2), "again")], "2026-01-02T00:00:00Z")
    lines = [json.loads(line) for line in spool.rejected.read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["model: is required", "is not JSON", "again"]
    assert json.loads(lines[0]["line"]) == {"event_id": "1"}


def test_only_one_resends_at_a_time(spool: Spool) -> None:
    other = Spool(spool.path, LIMIT)
    with spool.resending(wait=False) as ours, other.resending(wait=False) as theirs:
        assert (ours, theirs) == (True, False)
    waited = threading.Event()

    def wait() -> None:
        with other.resending(wait=True) as theirs:
            assert theirs
            waited.set()

    with spool.resending(wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not waited.wait(0.05)
    assert waited.wait(10)
    thread.join()


def _append(path: Path, first: int, count: int) -> None:
    spool = Spool(path, LIMIT)
    for number in range(first, first + count):
        spool.append(event(number))


def test_processes_append_while_the_front_is_dropped_and_none_is_lost(spool: Spool) -> None:
    writers = [
        multiprocessing.get_context("spawn").Process(target=_append, args=(spool.path, 1000 * part, 200))
        for part in range(3)
    ]
    for writer in writers:
        writer.start()
    found: list[int] = []
    while any(writer.is_alive() for writer in writers) or spool.size():
        batch = spool.read(0)
        found += numbers(batch.events)
        assert batch.broken == []
        spool.drop(batch.end)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(found) == [1000 * part + number for part in range(3) for number in range(200)]
    for part in range(3):
        of_one = [number for number in found if number // 1000 == part]
        assert of_one == sorted(of_one)


@given(st.lists(st.one_of(st.none(), st.integers(0, 30))))
def test_whatever_the_order_of_appends_tears_and_drops_no_event_is_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | None]
) -> None:
    """None tears a line, a number below 20 appends, another one takes from the front."""
    spool = Spool(tmp_path_factory.mktemp("spool") / "spool", LIMIT)
    appended, found = [], []
    for number, step in enumerate(steps):
        if step is None:
            with spool.path.open("ab") as file:
                file.write(event(number)[:-1])
        elif step < 20:
            spool.append(event(number))
            appended.append(number)
        else:
            batch = spool.read(0)
            found += numbers(batch.events)
            spool.drop(batch.end)
    found += numbers(spool.read(0).events)
    assert found == appended
