"""Workers share the jobs of a stream, and crash now and then: `python examples/worker_pool.py`.

The group hands a job to another worker where it was not acked, so none is lost; one may be done twice before its ack.
"""

from __future__ import annotations

from collections import Counter

import trio

from trio_extreme import START, Connection, NewEvent, PersistentEvent, PersistentSettings, open_connection
from trio_extreme.embedded import open_node

JOBS, WORKERS = 40, ("Ana", "Boris", "Ceca", "Dejan")


class Crash(Exception):
    """What happens to workers."""

    def __init__(self, job: PersistentEvent, when: str) -> None:
        super().__init__(f"at job {job.number}, {when}")


class Pool:
    """The jobs that were done, and how often each."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.done, self.acked = Counter[int](), set[int]()
        self.crashes_before, self.crashes_after = {3, 13, 23, 33}, {7, 17, 27, 37}
        self.all_acked = trio.Event()

    async def run(self, name: str) -> None:
        """One worker: when it has crashed, another takes its place."""
        while True:
            try:
                await self.work()
            except Crash as crash:
                print(f"{name} crashed {crash}")

    async def work(self) -> None:
        """Do jobs, until it crashes."""
        async with self.conn.subscribe_persistent("jobs", "workers", in_flight=2) as jobs:
            async for job in jobs:
                await self.do(job)
                await jobs.ack(job)
                self.acked.add(job.number)
                if len(self.acked) == JOBS:
                    self.all_acked.set()

    async def do(self, job: PersistentEvent) -> None:
        """The work itself."""
        await trio.sleep(0.01)
        if job.number in self.crashes_before:
            self.crashes_before.remove(job.number)
            raise Crash(job, "before it was done")
        self.done[job.number] += 1
        if job.number in self.crashes_after:
            self.crashes_after.remove(job.number)
            raise Crash(job, "before it was acked")


async def main() -> None:
    """Four workers in one nursery, until all jobs are done."""
    async with open_node() as node, open_connection(node.settings) as conn:
        await conn.ensure_persistent("jobs", "workers", PersistentSettings(start_from=START))
        await conn.append("jobs", [NewEvent.json("Job", {"number": number}) for number in range(JOBS)])
        pool = Pool(conn)
        async with trio.open_nursery() as nursery:
            for name in WORKERS:
                nursery.start_soon(pool.run, name)
            await pool.all_acked.wait()
            nursery.cancel_scope.cancel()
        print(f"{len(pool.done)} of {JOBS} jobs are done; twice: {sorted(pool.done - Counter(range(JOBS)))}")


if __name__ == "__main__":
    trio.run(main)
