from __future__ import annotations

import pytest

from tests.embedded.talk import Caller, new_id
from trio_extreme.embedded.clients import Client, Refusal, Request, require
from trio_extreme.embedded.records import NARROW_TOMBSTONE, WIDE_TOMBSTONE
from trio_extreme.embedded.versions import find_version
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command


def new_client(version: str = "4.1.1") -> Client:
    return Client(find_version(version), lambda _: None, lambda: None)


@pytest.mark.parametrize(("version", "wide"), [(0, False), (1, True)])
def test_a_client_knows_large_numbers_once_it_said_so(version: int, *, wide: bool) -> None:
    client = new_client()
    client.speaks = version
    assert client.form.wide is wide
    assert client.number(WIDE_TOMBSTONE) == (WIDE_TOMBSTONE if wide else NARROW_TOMBSTONE)
    assert [client.number(number) for number in (-1, 0, 7)] == [-1, 0, 7]


def test_a_client_shows_its_name_and_no_password() -> None:
    client = new_client()
    client.name = "my-app"
    assert repr(client) == "<Client 'my-app', version 0>"


def test_a_reply_goes_under_the_id_of_its_request() -> None:
    caller = Caller(lambda _, __: None)
    request = Request(caller.client, new_id(), None, Command.READ_EVENT, None)
    request.reply(Command.NOT_HANDLED, schema.NotHandled(reason=0))
    (reply,) = caller.replies
    assert reply == (Command.NOT_HANDLED, request.correlation, schema.NotHandled(reason=0))


def test_what_is_required_is_refused_with_its_reason() -> None:
    require(condition=True, text="no matter")
    with pytest.raises(Refusal, match="the name is empty"):
        require(condition=False, text="the name is empty")
