"""The flood's numbers are patched into bytes, so they are read back here."""

from __future__ import annotations

import pytest

from tests.soak.flood import BLOCK, FLOOD, Flood
from trio_extreme.wire import schema
from trio_extreme.wire.framing import FrameBuffer

CORRELATION = bytes(range(16))


@pytest.mark.parametrize("index", [0, 1, 7, 15, 16, 129, 976, 2047, 2048, 9999])
def test_the_events_of_a_block_have_ascending_numbers(index: int) -> None:
    flood = Flood(CORRELATION)
    flood.block(3)

    frames = FrameBuffer().feed(bytes(flood.block(index)))

    records = [schema.StreamEventAppeared.FromString(bytes(frame[3])).event.event for frame in frames]
    assert {bytes(frame[2]) for frame in frames} == {CORRELATION}
    assert [record.event_number for record in records] == list(range(index * BLOCK, (index + 1) * BLOCK))
    assert {record.event_stream_id for record in records} == {FLOOD}
