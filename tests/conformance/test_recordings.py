"""The recordings of real servers, read by the client's wire, and replayed into the embedded node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.compare import as_json, differences
from tests.conformance.recorded import VERSIONS, RecordedFrame, Recording, load, scenarios
from tests.conformance.replay import CLUSTERED, PROJECTING, own_ids, own_streams, recorded_conversation, replay
from trio_extreme.errors import ProtocolError
from trio_extreme.values import Credentials
from trio_extreme.wire.commands import MESSAGES, Command, decode_payload
from trio_extreme.wire.framing import AUTHENTICATED, decode_credentials, encode_credentials, encode_frame

if TYPE_CHECKING:
    from pathlib import Path

RECORDINGS = [load(version, scenario) for version in VERSIONS for scenario in scenarios(version)]


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_frame_is_what_the_recording_says(recording: Recording) -> None:
    for recorded in recording.frames:
        if recorded.raw is not None:
            check_frame(recorded)


def check_frame(recorded: RecordedFrame) -> None:
    command, flags, _, rest = recorded.frame
    assert (command, flags) == (recorded.code, recorded.flags)
    credentials = b""
    if flags & AUTHENTICATED:
        given, _ = decode_credentials(bytes(rest))
        assert given == Credentials(recorded.login or "", recorded.password or "")
        credentials = encode_credentials(given)
    assert encode_frame(command, recorded.correlation, recorded.payload, credentials) == recorded.raw
    check_payload(recorded)


def check_payload(recorded: RecordedFrame) -> None:
    if recorded.undecodable and recorded.code in MESSAGES:
        with pytest.raises(ProtocolError):
            decode_payload(recorded.code, recorded.payload)
    elif recorded.message is not None:
        assert Command(recorded.code).name.replace("_", "").lower() == recorded.command.lower()
        message = decode_payload(recorded.code, recorded.payload)
        assert as_json(message) == without_prefixes(recorded.message)
        assert message.SerializePartialToString() == recorded.payload
    elif recorded.text is not None:
        assert recorded.payload.decode() == recorded.text


def without_prefixes(value: Any) -> Any:
    """A recorded message with the plain names of enumerations: some recordings say `OperationResult__Success`."""
    if isinstance(value, dict):
        return {key: without_prefixes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_prefixes(inner) for inner in value]
    return re.sub(r"^[A-Za-z_]+__", "", value) if isinstance(value, str) else value


REPLAYED = [
    pytest.param(recording, persists, id=f"{recording}-{'file' if persists else 'memory'}")
    for recording in RECORDINGS
    for persists in ([False] if recording.scenario in CLUSTERED else [False, True])
]


@pytest.mark.parametrize(("recording", "persists"), REPLAYED)
async def test_the_node_answers_as_the_server_did(
    recording: Recording, tmp_path: Path, autojump_clock: None, *, persists: bool
) -> None:
    path = tmp_path / "node.db" if persists else None
    theirs = recorded_conversation(recording)
    ours = await replay(recording, path, projections=recording.scenario in PROJECTING)
    found = differences(theirs, ours, own_streams=own_streams(recording), own_ids=own_ids(recording))
    assert found == []
