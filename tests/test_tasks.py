"""A nursery that raises a lone error bare, and hides none."""

from __future__ import annotations

from typing import NoReturn

import pytest
import trio

from trio_extreme.tasks import _raise_single, open_plain_nursery


async def fail(error: BaseException) -> NoReturn:
    """At once, before anybody can cancel it."""
    raise error


async def run_together(*errors: BaseException, body: BaseException | None = None) -> None:
    """A nursery with a task that raises each error, one that waits, and a body."""
    async with open_plain_nursery() as nursery:
        for error in errors:
            nursery.start_soon(fail, error)
        nursery.start_soon(trio.sleep_forever)
        if body is not None:
            raise body
        await trio.sleep_forever()


async def test_nothing_happens() -> None:
    async with open_plain_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
    assert not nursery.child_tasks


async def test_an_error_of_the_body_is_bare() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as info:
        await run_together(body=error)
    assert info.value is error
    # Else its traceback would print the group that was unwrapped.
    assert error.__context__ is None
    assert error.__cause__ is None


async def test_an_error_of_a_task_is_bare_and_ends_the_body() -> None:
    error = KeyError("a bug")
    with pytest.raises(KeyError) as info:
        await run_together(error)
    assert info.value is error


async def test_what_led_to_an_error_stays() -> None:
    async def fail_after_another() -> NoReturn:
        try:
            await fail(KeyError("first"))
        except KeyError:
            await fail(ValueError("second"))
        raise AssertionError

    with pytest.raises(ValueError, match="second") as info:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail_after_another)
    assert isinstance(info.value.__context__, KeyError)


async def test_through_two_nurseries() -> None:
    with pytest.raises(KeyError):
        async with open_plain_nursery():
            await run_together(KeyError())


async def test_a_group_of_the_users_own_survives() -> None:
    error = KeyError()
    with pytest.raises(ExceptionGroup, match="mine") as info:
        await run_together(body=ExceptionGroup("mine", [error]))
    assert info.value.exceptions == (error,)


async def test_two_errors_that_met_stay_a_group() -> None:
    with pytest.RaisesGroup(KeyError, ValueError):
        await run_together(KeyError(), ValueError())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt("stop"), SystemExit(3)])
async def test_an_interrupt_wins(interrupt: BaseException) -> None:
    with pytest.raises(type(interrupt)) as info:
        await run_together(KeyError(), interrupt)
    assert info.value.args == interrupt.args
    assert isinstance(info.value.__cause__, BaseExceptionGroup)


async def test_cancellation_from_outside_is_no_error() -> None:
    with trio.move_on_after(0) as scope:
        await run_together()
    assert scope.cancelled_caught


async def test_an_error_met_by_a_cancellation_is_bare() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(KeyError):
            await run_together(body=KeyError())
    assert not scope.cancelled_caught


async def test_an_error_met_by_cancelled_tasks_of_a_nursery_of_the_users_is_bare() -> None:
    """There are two of them, so that trio makes a group of their cancellations."""

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError

    async def have_tasks() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    async def run_both() -> None:
        with trio.move_on_after(0.01):
            async with open_plain_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(have_tasks)

    with pytest.raises(KeyError):
        await run_both()


async def test_cancelled_alone_is_raised_as_it_is() -> None:
    """Trio before 0.33 raised a group of nothing but Cancelled."""
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled) as seen:
            await trio.lowlevel.checkpoint()
        with pytest.raises(trio.Cancelled) as info:
            _raise_single(BaseExceptionGroup("of a nursery", [seen.value]))
        assert info.value is seen.value
