// node-eventstore-client, as its users write it.
'use strict';
const fs = require('fs');
const crypto = require('crypto');
const client = require('node-eventstore-client');

const [work, port, count, size] = [process.argv[2], ...process.argv.slice(3, 6).map(Number)];
const STREAM = 'bench', STORED_STREAM = 'bench-stored', SHORT_STREAM = 'bench-short';
const GROUP = 'workers';
const PAGE = 500, BATCH = 500, WINDOW = 100, SHORT = 512, IN_FLIGHT = 500;
const ADMIN = new client.UserCredentials('admin', 'changeit');

function counter(events, done) {
  let numbers = 0, bytes = 0;
  return event => {
    const number = Number(event.originalEventNumber);
    numbers += number;
    bytes += event.originalEvent.data.length;
    if (number === events - 1) {
      if (numbers !== events * (events - 1) / 2 || bytes !== events * size) throw new Error(`saw ${numbers} ${bytes}`);
      done();
    }
  };
}

const until = start => new Promise((resolve, reject) => { Promise.resolve(start(resolve)).catch(reject); });

const newEvent = () => client.createEventData(crypto.randomUUID(), 'PersonCreated', false, Buffer.alloc(size));

async function append(connection, appends, stream = STREAM) {
  for (let i = 0; i < appends; i++) await connection.appendToStream(stream, client.expectedVersion.any, newEvent());
}

const works = {
  async pages(connection) {
    let seen = false, next = 0;
    const take = counter(count, () => { seen = true; });
    while (!seen) {
      const page = await connection.readStreamEventsForward(STREAM, next, PAGE, true);
      page.events.forEach(take);
      next = page.nextEventNumber;
    }
  },
  catch_up: connection => until(done => {
    const take = counter(count, done);
    return connection.subscribeToStreamFrom(STORED_STREAM, null, true, (_, event) => take(event), undefined, undefined,
      undefined, PAGE);
  }),
  live: connection => until(done => {
    const take = counter(count, done);
    return connection.subscribeToStream(STREAM, true, (_, event) => take(event));
  }),
  many: connection => Promise.all(Array.from({ length: count / SHORT }, () => until(done => {
    const take = counter(SHORT, done);
    return connection.subscribeToStream(SHORT_STREAM, true, (_, event) => take(event));
  }))),
  group: connection => until(done => {
    const take = counter(count, done);
    return connection.connectToPersistentSubscription(STREAM, GROUP, (subscription, event) => {
      take(event);
      subscription.acknowledge(event);
    }, undefined, ADMIN, IN_FLIGHT, false);
  }),
  in_turn: connection => append(connection, count),
  pipelined: connection => Promise.all(Array.from({ length: WINDOW }, () => append(connection, count / WINDOW))),
  async batches(connection) {
    for (let i = 0; i < count / BATCH; i++) {
      await connection.appendToStream(STREAM, client.expectedVersion.any, Array.from({ length: BATCH }, newEvent));
    }
  },
  async b1(connection) {
    for (let i = 0; i < count / 10; i++) {
      await connection.appendToStream('b1', client.expectedVersion.any, Array.from({ length: 10 }, newEvent));
    }
  },
  b2: connection => connection.appendToStream('b2', client.expectedVersion.any, Array.from({ length: count }, newEvent)),
  async b3(connection) {
    await connection.appendToStream('b3', client.expectedVersion.any, Array.from({ length: count }, newEvent));
    await Promise.all([append(connection, 1000, 'b3'), readSoMany(connection, 'b3', count + 1000)]);
  },
};

async function readSoMany(connection, stream, events) {
  let seen = 0;
  while (seen < events) seen += (await connection.readStreamEventsForward(stream, seen, 1000, true)).events.length;
}

const connection = client.createConnection({ defaultUserCredentials: ADMIN }, `tcp://127.0.0.1:${port}`);
connection.once('connected', async () => {
  const began = process.hrtime.bigint();
  await works[work](connection);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const memory = Number(/VmHWM:\s+(\d+) kB/.exec(fs.readFileSync('/proc/self/status'))[1]) * 1024;
  console.log(JSON.stringify({ seconds, memory }));
  process.exit(0);
});
connection.once('closed', reason => { console.error(`closed: ${reason}`); process.exit(1); });
connection.connect().catch(error => { console.error(error); process.exit(1); });
