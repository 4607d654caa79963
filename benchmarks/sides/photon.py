"""photon-pump 0.9.5, as its users write it. Run by the Python and the protobuf of its own time."""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

from photonpump import connect, conversations as convo
from photonpump.messages import NewEvent

STREAM, STORED_STREAM, SHORT_STREAM, BUSY_STREAM = "bench", "bench-stored", "bench-short", "bench-busy"
GROUP = "workers"
PAGE, BATCH, WINDOW, SHORT, BUSY_ROUNDS, IN_FLIGHT = 500, 500, 100, 512, 10, 500


async def take(events, count):
    """Until the last of so many; that each came once."""
    numbers = size = 0
    async for event in events:
        number = event.event_number
        numbers += number
        size += len(event.data)
        if number == count - 1:
            break
    check(count, numbers, size)


def check(count, numbers, size):
    assert (numbers, size) == (count * (count - 1) // 2, count * SIZE), (numbers, size)


async def take_all(events, count):
    seen = 0
    async for _ in events:
        seen += 1
        if seen == count:
            break


async def pages(client, count):
    await take(client.iter(STREAM, from_event=0, batch_size=PAGE), count)


async def catch_up(client, count):
    subscription = await client.subscribe_to(STORED_STREAM, start_from=0, batch_size=PAGE)
    await take(subscription.events, count)


async def live(client, count):
    subscription = await client.subscribe_to(STREAM)
    await take(subscription.events, count)


async def many(client, count):
    async def one():
        subscription = await client.subscribe_to(SHORT_STREAM)
        await take(subscription.events, SHORT)

    await asyncio.gather(*[one() for _ in range(count // SHORT)])


async def group(client, count):
    # `connect_subscription` has no place for how many may be in flight, and its own 10 would be no comparison.
    conversation = convo.ConnectPersistentSubscription(
        GROUP, STREAM, max_in_flight=IN_FLIGHT, credential=client.credential
    )
    subscription = await (await client.dispatcher.start_conversation(conversation))
    numbers = size = 0
    async for event in subscription.events:
        number = event.event_number
        numbers += number
        size += len(event.data)
        await subscription.ack(event)
        if number == count - 1:
            break
    check(count, numbers, size)


def body():
    """It takes what JSON can say, and no bytes: so many bytes of JSON."""
    return {"data": "x" * (SIZE - 12)}


async def append(client, count):
    data = body()
    for _ in range(count):
        await client.publish_event(STREAM, "PersonCreated", body=data)


async def in_turn(client, count):
    await append(client, count)


async def pipelined(client, count):
    await asyncio.gather(*[append(client, count // WINDOW) for _ in range(WINDOW)])


async def batches(client, count):
    data = body()
    for _ in range(count // BATCH):
        await client.publish(STREAM, [NewEvent("PersonCreated", data=data) for _ in range(BATCH)])


async def pings(client, count):
    subscription = await client.subscribe_to(BUSY_STREAM)
    taking = asyncio.ensure_future(take_all(subscription.events, count * BUSY_ROUNDS))
    seconds = []
    while not taking.done():
        began = time.perf_counter()
        await client.ping()
        seconds.append(time.perf_counter() - began)
    await taking
    return seconds


async def b1(client, count):
    """Extreme's first benchmark: appends of ten events, one after the other."""
    data = body()
    for _ in range(count // 10):
        await client.publish("b1", [NewEvent("PersonCreated", data=data) for _ in range(10)])


async def b2(client, count):
    """Its second: one append of all."""
    data = body()
    await client.publish("b2", [NewEvent("PersonCreated", data=data) for _ in range(count)])


async def b3(client, count):
    """Its third: many in one append, then a thousand by themselves while another reads all, a thousand at a time."""
    data = body()
    await client.publish("b3", [NewEvent("PersonCreated", data=data) for _ in range(count)])
    await asyncio.gather(append_to("b3", client, 1000), read_so_many("b3", client, count + 1000))


async def append_to(stream, client, count):
    data = body()
    for _ in range(count):
        await client.publish_event(stream, "PersonCreated", body=data)


async def read_so_many(stream, client, count):
    seen = 0
    while seen < count:
        page = await client.get(stream, from_event=seen, max_count=1000)
        seen += len(page)


async def main(work, port, count):
    async with connect(host="127.0.0.1", port=port, username="admin", password="changeit") as client:
        await client.ping()
        began = time.perf_counter()
        result = await work(client, count)
        seconds = time.perf_counter() - began
        report({"pings": result} if work is pings else {"seconds": seconds})


def report(found):
    memory = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({**found, "memory": int(memory[1]) * 1024}), flush=True)
    # Leaving the block would wait for all that is still pushed.
    os._exit(0)


if __name__ == "__main__":
    SIZE = int(sys.argv[4])
    asyncio.get_event_loop().run_until_complete(main(globals()[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])))
