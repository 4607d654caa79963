from __future__ import annotations

import socket

import pytest
import trio

from tests.leaks import FILE_DESCRIPTORS, run_watched


def test_a_task_that_is_left_is_found() -> None:
    async def leave_a_task() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="trio_extreme.session.forgotten")
        await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="forgotten"):
        run_watched(leave_a_task)


def test_a_socket_that_is_left_is_found() -> None:
    left: list[socket.socket] = []

    async def leave_a_socket() -> None:
        left.append(socket.socket())
        await trio.lowlevel.checkpoint()

    if FILE_DESCRIPTORS.exists():
        with pytest.raises(AssertionError, match="socket"):
            run_watched(leave_a_socket)
    for one in left:
        one.close()


def test_nothing_left_is_nothing_found() -> None:
    run_watched(trio.lowlevel.checkpoint)
