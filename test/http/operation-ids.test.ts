import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, subscribeMessage } from '../support/live-client.ts';
import { withClient } from '../support/postgres-client.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';
import { clientFrame, openWireClient } from '../support/wire-client.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const open = () => openRawSocket(app.wsUrl, { key: app.key });
const until = (metric: string, count: number) =>
  // far less than the 30 s for which an unanswered close or a poll may wait
  eventually(async () => (await readMetric(app, metric)) === count, {
    describe: `${metric} ${count}`,
    deadlineMs: 10_000,
  });
const NOTES = '{ notes(first: 1) { nodes { text } } }';
const EVENTS = 'subscription { events { id } }';

/** Nobody reads notes while it works. */
const withNotesLocked = (work: () => Promise<void>) =>
  withClient(app.env.DATABASE_URL ?? '', async (client) => {
    await client.query('begin; lock table note in access exclusive mode');
    await work();
    await client.query('rollback');
  });

describe('an id that is used again', () => {
  it('gets its own answer, not that of the query that was completed before', async () => {
    const socket = await open();
    await withNotesLocked(async () => {
      socket.send(subscribeMessage('1', NOTES));
      socket.send({ id: '1', type: 'complete' }, subscribeMessage('1', '{ notes(first: 1) { nodes { id } } head }'));
      socket.send(subscribeMessage('2', '{ head }'));
      await socket.find(({ id, type }) => id === '2' && type === 'complete');
    });
    await socket.find(({ id, type }) => id === '1' && type === 'complete');
    // behind the query that had to wait
    socket.send(subscribeMessage('3', NOTES));
    await socket.find(({ id, type }) => id === '3' && type === 'complete');
    expect(socket.received.filter(({ id }) => id === '1')).toMatchObject([
      { type: 'next', payload: { data: { head: expect.any(String) } } },
      { type: 'complete' },
    ]);
    await socket.end();
  });

  it.each([
    ['query', NOTES],
    ['subscription', EVENTS],
  ])('while its %s is under way closes the socket with 4409', async (_kind, query) => {
    await withNotesLocked(async () => {
      const socket = await open();
      socket.send(subscribeMessage('1', query), subscribeMessage('1', '{ head }'));
      expect(await socket.closed).toEqual({ code: 4409, reason: 'Subscriber for 1 already exists' });
    });
    await until('fanfare_streams', 0);
  });
});

describe('a query that its client completed', () => {
  it('ends its wait: nothing is lent to nobody', async () => {
    const create = 'mutation { consumerCreate(name: "c") { __typename } }';
    expect((await app.post(create)).data.consumerCreate.__typename).toBe('ConsumerCreateSuccess');
    const socket = await open();
    socket.send(subscribeMessage('1', '{ consumerPoll(name: "c", waitMs: 30000) { cursor } }'));
    await until('fanfare_waiting_polls', 1);
    socket.send({ id: '1', type: 'complete' });
    await until('fanfare_waiting_polls', 0);
    expect(socket.received.filter(({ id }) => id === '1')).toEqual([]);
    await socket.end();
  });

  it('counts until it has ended: 100 of them are all', async () => {
    const socket = await open();
    await withNotesLocked(async () => {
      for (let n = 0; n < 100; n++) socket.send(subscribeMessage(`${n}`, NOTES), { id: `${n}`, type: 'complete' });
      socket.send(subscribeMessage('100', '{ head }'));
      const refused = await socket.find(({ type }) => type === 'error' || type === 'next');
      expect(refused).toMatchObject({ id: '100', payload: [{ extensions: { code: 'RATE_LIMITED' } }] });
    });
    await socket.end();
  });
});

describe('a socket whose close has begun', () => {
  it('holds no stream any more, though its client keeps the connection open', async () => {
    const client = await openWireClient(app.url, app.key);
    client.send(clientFrame('text', subscribeMessage('1', EVENTS)));
    await until('fanfare_streams', 1);
    // it does not see that the server ends the connection
    client.socket.pause();
    client.send(clientFrame('close', Buffer.from([0x03, 0xe8])));
    await until('fanfare_streams', 0);
    client.socket.destroy();
  });

  it('holds none either when a frame was too large', async () => {
    const client = await openWireClient(app.url, app.key);
    client.send(clientFrame('text', subscribeMessage('1', EVENTS)));
    await until('fanfare_streams', 1);
    client.socket.pause();
    client.send(clientFrame('text', 'x'.repeat(200_000)));
    await until('fanfare_streams', 0);
    client.socket.destroy();
  });
});

it('a ping with a payload of null is answered', async () => {
  const socket = await open();
  socket.send({ type: 'ping', payload: null });
  await socket.find(({ type }) => type === 'pong');
  await socket.end();
});
