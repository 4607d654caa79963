"""What a server lacks: told from what it says, and called by its name."""

from __future__ import annotations

import pytest

from tests.conformance.recorded import VERSIONS, load, scenarios
from trio_extreme.errors import BadRequest, Unsupported
from trio_extreme.operations.features import FEATURES, TOKENS, feature_of, is_unknown
from trio_extreme.operations.session import Raw
from trio_extreme.operations.writing import Append
from trio_extreme.values import ANY
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command


@pytest.mark.parametrize("version", VERSIONS)
def test_the_text_of_a_real_server(version: str) -> None:
    request, answer = load(version, "unknown_command").frames
    assert is_unknown(request.code, answer.payload)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_real_server_dislikes_it_knows(version: str) -> None:
    """All BadRequests of the recordings but those above: empty names, impossible numbers, garbage."""
    texts = [
        (frame.code, answer.payload)
        for scenario in scenarios(version)
        if scenario != "unknown_command"
        for recording in [load(version, scenario)]
        for answer in recording.answers
        for frame in recording.frames
        if answer.code == Command.BAD_REQUEST and frame.from_client and frame.label == answer.label
    ]
    assert len(texts) > 5
    assert not any(is_unknown(command, text) for command, text in texts)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        (b"Could not unwrap network package for command 186.\n", True),
        (b"Could not unwrap network package for command 186.\r\nand more", True),
        (b"Could not unwrap network package for command 187.\n", False),
        (b"Could not unwrap network package for command 1860.\n", False),
        (b"Could not unwrap network package for command FilteredReadAllEventsForward.\n186.", False),
        (b"no: Could not unwrap network package for command 186.\n", False),
        ("Could not unwrap network package for command ١٨٦.\n".encode(), False),
        (b"", False),
    ],
)
def test_the_number_of_the_command(text: bytes, *, unknown: bool) -> None:
    assert is_unknown(186, text) is unknown


def test_an_operation_that_the_server_does_not_know() -> None:
    filtered = Raw(schema.FilteredReadAllEvents(), Command.FILTERED_READ_ALL_EVENTS_FORWARD)
    with pytest.raises(
        Unsupported, match=r"filtered reads and subscriptions: servers have it since 20\.6\.0"
    ) as caught:
        filtered.decide(Command.BAD_REQUEST, b"Could not unwrap network package for command 186.\n")
    assert (caught.value.feature, caught.value.since) == ("filtered reads and subscriptions", "20.6.0")
    text = b"Could not unwrap network package for command FilteredReadAllEventsForward.\n"
    with pytest.raises(BadRequest, match="FilteredReadAllEventsForward"):
        filtered.decide(Command.BAD_REQUEST, text)


def test_a_command_as_old_as_the_oldest_server_has_no_name_but_its_own() -> None:
    operation = Append("s", [], ANY, require_master=True)
    with pytest.raises(Unsupported, match=r"the command WRITE_EVENTS: servers have it since 3\.0\.0"):
        operation.decide(Command.BAD_REQUEST, b"Could not unwrap network package for command 130.\n")


def test_features_have_each_one_version() -> None:
    since = {feature.name: feature.since for feature in (*FEATURES.values(), TOKENS)}
    assert {(feature.name, feature.since) for feature in (*FEATURES.values(), TOKENS)} == set(since.items())
    assert feature_of(Command.FILTERED_SUBSCRIBE_TO_STREAM) is feature_of(Command.FILTERED_READ_ALL_EVENTS_BACKWARD)
