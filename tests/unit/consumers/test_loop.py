"""Splitting a batch: the parts' moves join without gap or overlap, partition by partition."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.consumers.batch import Batch
from budget_bus.store.fence import Advance, Claim

READ_TO = datetime(2026, 11, 23, tzinfo=UTC)
TOPIC = "usage.recorded"


def record(partition: int, offset: int) -> ConsumerRecord:
    return ConsumerRecord(TOPIC, partition, offset, 0, 0, None, b"{}", None, -1, 2, ())


def batch_of(offsets: dict[int, list[int]], *, begins: dict[int, int], ends: dict[int, int]) -> Batch:
    """A batch with these offsets per partition; a move may begin before the first record and end after the last."""
    records = [record(partition, offset) for partition, found in offsets.items() for offset in found]
    moves = [
        Advance(Claim(partition, 3 + partition, begins[partition]), ends[partition], READ_TO) for partition in offsets
    ]
    return Batch(TOPIC, records, moves)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any batch of one to three partitions, with gaps before, between and after its records."""
    offsets: dict[int, list[int]] = {}
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    for partition in draw(st.permutations(range(3)))[: draw(st.integers(1, 3))]:
        begins[partition] = at = draw(st.integers(0, 1000))
        offsets[partition] = []
        for gap in draw(st.lists(st.integers(0, 3), min_size=1, max_size=8)):
            offsets[partition].append(at + gap)
            at += gap + 1
        ends[partition] = at + draw(st.integers(0, 3))
    return batch_of(offsets, begins=begins, ends=ends)


def pieces(batch: Batch, cuts: list[int]) -> list[Batch]:
    bounds = sorted({0, len(batch.records), *(cut % (len(batch.records) + 1) for cut in cuts)})
    return [batch.part(start, stop) for start, stop in pairwise(bounds)]


def assert_joined(whole: Batch, parts: list[Batch]) -> None:
    """The parts hold every record in order, and their moves lead each partition from its begin to its end in steps."""
    assert [record for part in parts for record in part.records] == list(whole.records)
    steps: dict[int, list[Advance]] = defaultdict(list)
    for part in parts:
        assert {move.claim.part for move in part.moves} == {record.partition for record in part.records}
        assert len(part.moves) == len({move.claim.part for move in part.moves})
        for move in part.moves:
            steps[move.claim.part].append(move)
            inside = [record.offset for record in part.records if record.partition == move.claim.part]
            assert all(move.claim.next_offset <= offset < move.to_offset for offset in inside)
    for move in whole.moves:
        walked = steps[move.claim.part]
        assert walked[0].claim.next_offset == move.claim.next_offset
        assert walked[-1].to_offset == move.to_offset
        assert all(left.to_offset == right.claim.next_offset for left, right in pairwise(walked))
        assert {step.claim.epoch for step in walked} == {move.claim.epoch}


@given(batches(), st.lists(st.integers(0, 100), max_size=6))
def test_the_parts_of_a_batch_join(batch: Batch, cuts: list[int]) -> None:
    assert_joined(batch, pieces(batch, cuts))


@given(batches())
def test_a_batch_that_is_halved_down_to_single_records_joins(batch: Batch) -> None:
    def halved(part: Batch) -> list[Batch]:
        if len(part.records) == 1:
            return [part]
        half = len(part.records) // 2
        return [*halved(part.part(0, half)), *halved(part.part(half, len(part.records)))]

    assert_joined(batch, halved(batch))


@given(batches())
def test_the_whole_is_a_part_of_itself(batch: Batch) -> None:
    assert batch.part(0, len(batch.records)) == batch


@pytest.mark.parametrize(
    ("start", "stop", "move"),
    [
        pytest.param(0, 1, (5, 6), id="the first part ends after its last record, not at the gap's end"),
        pytest.param(1, 2, (6, 10), id="the middle begins there, before the gap"),
        pytest.param(2, 3, (10, 20), id="the last ends where the batch does, after the gap"),
        pytest.param(0, 3, (5, 20), id="all of it"),
    ],
)
def test_gaps_belong_to_the_part_behind_them(start: int, stop: int, move: tuple[int, int]) -> None:
    whole = batch_of({0: [5, 9, 12]}, begins={0: 5}, ends={0: 20})
    (only,) = whole.part(start, stop).moves
    assert (only.claim.next_offset, only.to_offset) == move


def test_a_part_does_not_move_partitions_that_it_has_no_record_of() -> None:
    whole = batch_of({0: [0, 1], 1: [7]}, begins={0: 0, 1: 7}, ends={0: 2, 1: 8})
    assert [move.claim.part for move in whole.part(0, 2).moves] == [0]
    assert [move.claim.part for move in whole.part(2, 3).moves] == [1]


EPOCH = datetime.fromtimestamp(0, UTC)


@given(batches(), st.lists(st.integers(0, 100), max_size=6))
def test_only_the_part_that_ends_a_move_claims_its_watermark(batch: Batch, cuts: list[int]) -> None:
    ends = {move.claim.part: move.to_offset for move in batch.moves}
    for part in pieces(batch, cuts):
        for move in part.moves:
            assert move.watermark_at == (READ_TO if move.to_offset == ends[move.claim.part] else EPOCH)
