"""Getting a stream, and the attempts that failed: how they are told, how long is waited, and what is kept of them."""

from __future__ import annotations

import gc
import logging
import socket
import weakref
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.peer import ANONYMOUS, Network, Peer
from trio_extreme import ConnectFailed, ConnectionLost, ProtocolError, TrioExtremeError
from trio_extreme.connecting import KEPT_ATTEMPTS, Attempts, Backoff, open_stream

if TYPE_CHECKING:
    from trio_extreme import Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

HERE = ANONYMOUS.replace(host="db.example", port=1234)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


# --- a stream


async def test_it_connects_to_host_and_port() -> None:
    asked: list[tuple[str, int]] = []
    peer = Peer()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        return await peer.connect(host, port)

    assert await open_stream(HERE, connect) is peer.stream
    assert asked == [("db.example", 1234)]


def refused_by_both_addresses() -> OSError:
    """As trio says it."""
    error = OSError("all attempts to connect to localhost:1113 failed")
    error.__cause__ = ExceptionGroup("both", [ConnectionRefusedError(111, "Connection refused"), OSError("other")])
    return error


def refused_by_the_only_address() -> OSError:
    error = OSError("all attempts to connect to localhost:1113 failed")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "([Errno 111] Connection refused): is the server up"),
        (refused_by_both_addresses(), "([Errno 111] Connection refused): is the server up"),
        (refused_by_the_only_address(), "([Errno 111] Connection refused): is the server up"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "'db.example' cannot be looked up (Name or service not known): check the host",
        ),
    ],
)
async def test_why_there_is_none(error: OSError, words: str) -> None:
    with pytest.raises(ConnectionLost) as info:
        await open_stream(HERE, Network(error).connect)
    assert words in str(info.value)
    assert info.value.__cause__ is error


async def test_none_in_time() -> None:
    with pytest.raises(ConnectionLost, match=r"2\.5 s \(connect_timeout\)") as info:
        await open_stream(HERE.replace(connect_timeout=2.5), Network(None).connect)
    assert trio.current_time() == 2.5
    assert isinstance(info.value.__cause__, trio.TooSlowError)


async def test_cancelled() -> None:
    with trio.move_on_after(1) as scope:
        await open_stream(HERE, Network(None).connect)
    assert scope.cancelled_caught


async def test_a_bug_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        await open_stream(HERE, Network(ZeroDivisionError()).connect)


# --- delays


def test_delays_are_drawn_below_a_bound_that_doubles() -> None:
    settings = HERE.replace(reconnect_delay=0.1, max_reconnect_delay=5)
    backoff, same = Backoff(settings, Random(7)), Random(7)
    delays = [backoff.next() for _ in range(2000)]
    assert delays == [same.uniform(0, min(5, 0.1 * 2 ** min(number, 60))) for number in range(2000)]
    assert max(delays) > 4.5
    assert min(delays[10:]) < 0.5


def test_no_delay() -> None:
    backoff = Backoff(HERE.replace(reconnect_delay=0.0, max_reconnect_delay=0.0), Random(7))
    assert [backoff.next() for _ in range(100)] == [0] * 100


def test_where_the_first_attempt_comes_at_once_the_next_ones_do_not() -> None:
    """Or it would go round without end, and let nobody else run."""
    backoff, same = Backoff(HERE.replace(reconnect_delay=0, max_reconnect_delay=5), Random(7)), Random(7)
    delays = [backoff.next() for _ in range(100)]
    assert delays[0] == same.uniform(0, 0)
    assert delays[1:] == [same.uniform(0, min(5, 0.001 * 2**number)) for number in range(99)]


def test_the_first_delay_is_bounded_too() -> None:
    backoff = Backoff(HERE.replace(reconnect_delay=100, max_reconnect_delay=1), Random(7))
    assert all(backoff.next() <= 1 for _ in range(100))


def test_when_it_has_gone_well_delays_are_short_again() -> None:
    backoff = Backoff(HERE.replace(reconnect_delay=0.1, max_reconnect_delay=5), Random(7))
    for _ in range(10):
        for _ in range(10):
            backoff.next()
        backoff.reset()
        assert backoff.next() <= 0.1
        assert backoff.next() <= 0.2
        backoff.reset()


# --- attempts


def attempts(limit: int | None = None, settings: Settings = HERE, seed: int = 7) -> Attempts:
    return Attempts(settings, Random(seed), limit)


def give_up(failed: Attempts, error: TrioExtremeError) -> ConnectFailed:
    """The error after the last attempt."""
    with pytest.raises(ConnectFailed) as info:
        failed.failed(error)
    return info.value


def test_so_many_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    failed = attempts(3)
    errors: list[TrioExtremeError] = [ConnectionLost("one"), ProtocolError("two"), ConnectionLost("three")]
    failed.failed(errors[0])
    failed.failed(errors[1])
    error = give_up(failed, errors[2])
    assert str(error) == "could not connect to db.example:1234 in 3 attempts; the last: three"
    assert error.attempts == tuple(errors)
    assert error.__cause__ is errors[2]
    said = warnings(caplog)
    assert said[0].startswith("attempt 1 to connect to db.example:1234 failed: one; next in 0.")
    assert said[1].startswith("attempt 2 to connect to db.example:1234 failed: two; next in 0.")
    assert said[2:] == ["attempt 3 to connect to db.example:1234 failed: three; no further one"]


def test_the_only_one(caplog: pytest.LogCaptureFixture) -> None:
    failed, error = attempts(1), ConnectionLost("no")
    assert give_up(failed, error).attempts == (error,)
    assert warnings(caplog) == ["attempt 1 to connect to db.example:1234 failed: no; no further one"]


def test_no_end_of_attempts() -> None:
    failed, same = attempts(None), Backoff(HERE, Random(7))
    delays = [failed.failed(ConnectionLost("no")) for _ in range(2000)]
    assert delays == [same.next() for _ in range(2000)]
    assert failed.count == 2000


def test_the_attempts_are_counted() -> None:
    failed = attempts(3)
    counts = [failed.count]
    for _ in range(2):
        failed.failed(ConnectionLost("no"))
        counts.append(failed.count)
    give_up(failed, ConnectionLost("no"))
    assert [*counts, failed.count] == [0, 1, 2, 3]


def test_a_loss_is_no_failed_attempt(caplog: pytest.LogCaptureFixture) -> None:
    failed, same = attempts(2), Backoff(HERE, Random(7))
    assert failed.lost(ConnectionLost("the connection is lost: cut")) == (delay := same.next())
    assert failed.count == 0
    # The attempts that follow have the longer delays.
    assert failed.failed(ConnectionLost("refused")) == same.next()
    error = give_up(failed, ConnectionLost("refused again"))
    assert [str(attempt) for attempt in error.attempts] == ["refused", "refused again"]
    said = warnings(caplog)
    assert said[0] == f"the connection is lost: cut (db.example:1234); connecting again in {delay:.2f} s"
    assert said[1].startswith("attempt 1 to connect to db.example:1234 failed: refused; next in ")
    assert said[2] == "attempt 2 to connect to db.example:1234 failed: refused again; no further one"


def test_a_loss_keeps_nothing_alive() -> None:
    kept: list[weakref.ref[Large]] = []
    error = fail_with_something_large(kept, fail_with_something_large(kept))
    attempts().lost(error)
    gc.collect()
    assert [reference() for reference in kept] == [None] * 2
    assert str(error.__cause__) == "no frame"


def test_of_endless_attempts_the_newest_are_kept() -> None:
    count = 3 * KEPT_ATTEMPTS
    failed = attempts(count)
    for number in range(1, count):
        failed.failed(ConnectionLost(str(number)))
    error = give_up(failed, ConnectionLost(str(count)))
    assert [str(attempt) for attempt in error.attempts] == [str(number) for number in range(201, 301)]
    assert f"in {count} attempts" in str(error)


class Large:
    """What a session holds."""


def fail_with_something_large(kept: list[weakref.ref[Large]], cause: BaseException | None = None) -> ProtocolError:
    """An error whose traceback has a frame that holds it."""

    def read() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        msg = "no frame" if cause is None else "another protocol"
        raise ProtocolError(msg) from cause

    with pytest.raises(ProtocolError) as info:
        read()
    return info.value


def test_a_failed_attempt_keeps_nothing_alive() -> None:
    kept: list[weakref.ref[Large]] = []
    failed = attempts(2)
    failed.failed(fail_with_something_large(kept, fail_with_something_large(kept)))
    gc.collect()
    assert [reference() is None for reference in kept] == [True] * 2
    error = give_up(failed, fail_with_something_large(kept, fail_with_something_large(kept)))
    gc.collect()
    assert [reference() for reference in kept] == [None] * 4
    # What went wrong is still told, with its causes.
    assert [str(attempt.__cause__) for attempt in error.attempts] == ["no frame"] * 2


def test_a_group_of_errors_keeps_nothing_alive() -> None:
    """What Trio raises where none of a name's addresses accepts: each had a socket."""
    kept: list[weakref.ref[Large]] = []
    group = OSError("all attempts failed")
    group.__cause__ = ExceptionGroup("attempts", [fail_with_something_large(kept) for _ in range(2)])
    failed = attempts(2)
    failed.failed(fail_with_something_large(kept, group))
    gc.collect()
    assert [reference() is None for reference in kept] == [True] * 3


def test_what_was_raised_while_another_was_handled_keeps_nothing_either() -> None:
    def fail() -> None:
        try:
            int("x")
        except ValueError:
            msg = "handled"
            raise ConnectionLost(msg)  # noqa: B904 - it is the context that matters here

    failed = attempts()
    with pytest.raises(ConnectionLost) as info:
        fail()
    failed.failed(info.value)
    assert info.value.__context__ is not None
    assert info.value.__context__.__traceback__ is None
