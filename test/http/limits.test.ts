import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiUser, createUser, readMetric } from '../support/api-user.ts';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, openRawSocket, openSse, stockClient, subscribeMessage } from '../support/live-client.ts';
import { startSecondApp } from '../support/second-app.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

const EVENTS = 'subscription { events { id } }';
const LIMIT = 4;

const held = (app: TestApp) => readMetric(app, 'fanfare_connections');
const untilHeld = (app: TestApp, count: number) =>
  eventually(async () => (await held(app)) === count, { describe: `${count} connections` });

const openSocket = ({ wsUrl }: Pick<TestApp, 'wsUrl'>, { key }: Pick<ApiUser, 'key'>) => openRawSocket(wsUrl, { key });
const openStream = ({ url }: Pick<TestApp, 'url'>, { key }: Pick<ApiUser, 'key'>) =>
  openSse(url, { key, query: EVENTS });

const expectFull = async (app: TestApp, user: ApiUser) => {
  const socket = await openRawSocket(app.wsUrl);
  socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${user.key}` } });
  expect(await socket.closed).toEqual({ code: 1013, reason: 'Too many connections' });
  expect(socket.received).toEqual([]);
  const stream = await openStream(app, user);
  expect([stream.status, stream.headers['retry-after']]).toEqual([429, '1']);
  await stream.ended;
  expect(JSON.parse(stream.text()).errors[0].extensions.code).toBe('RATE_LIMITED');
};

describe.each(BACKENDS)('connections of one key on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    const env = { CONNECTIONS_PER_KEY: String(LIMIT) };
    app = await startApp({ backend, domain, domainMigrations: toyMigrations, env });
  });
  afterAll(() => app.stop());

  it('are as many as CONNECTIONS_PER_KEY, sockets and streams together', async () => {
    const [user, other] = [await createUser(app), await createUser(app)];
    const sockets = [await openSocket(app, user), await openSocket(app, user), await openSocket(app, user)];
    const stream = await openStream(app, user);
    expect(stream.status).toBe(200);
    await expectFull(app, user);
    // neither another key's connections nor calls without a stream are counted
    const theirs = await openSocket(app, other);
    expect((await user.post('{ head }')).errors).toBeUndefined();
    expect(await held(app)).toBe(LIMIT + 1);

    stream.end();
    await untilHeld(app, LIMIT);
    sockets.push(await openSocket(app, user));
    await expectFull(app, user);
    await Promise.all([...sockets, theirs].map((socket) => socket.end()));
    await untilHeld(app, 0);
  });

  it('a stock client that was refused comes back by itself', async () => {
    const user = await createUser(app);
    const sockets = await Promise.all(Array.from({ length: LIMIT }, () => openSocket(app, user)));
    const closes: number[] = [];
    const client = stockClient(app.wsUrl, user.key, {
      retryAttempts: 1_000,
      retryWait: () => new Promise((resolve) => setTimeout(resolve, 20)),
      on: { closed: (event: { code: number }) => void closes.push(event.code) },
    });
    const answer = client.iterate({ query: '{ head }' }).next();
    await eventually(() => closes.length > 2);
    expect(new Set(closes)).toEqual(new Set([1013]));
    await Promise.all(sockets.map((socket) => socket.end()));
    expect((await answer).value.data.head).toEqual(expect.any(String));
    await client.dispose();
    await untilHeld(app, 0);
  });
});

describe('connections of one key over two processes', () => {
  it('are counted together, and those of a process that stopped are free', async () => {
    const env = { CONNECTIONS_PER_KEY: String(LIMIT) };
    const app = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations, env });
    const second = await startSecondApp(app, { domain, env: { ROLES: 'api' } });
    const user = await createUser(app);
    const mine = [await openSocket(app, user), await openStream(app, user)];
    const theirs = [await openSocket(second, user), await openStream(second, user)];
    await expectFull(app, user);
    await expectFull(second, user);
    await second.stop();
    const more = [await openSocket(app, user), await openStream(app, user)];
    await expectFull(app, user);
    await Promise.all([...mine, ...theirs, ...more].map((each) => each.end()));
    await untilHeld(app, 0);
    await app.stop();
  });
});

describe('places', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const init = { type: 'connection_init' };
  const credentials = (key: string) => ({ ...init, payload: { Authorization: `Bearer ${key}` } });
  /** Ways in and out again, of sockets. */
  const ways: readonly ((key: string) => Promise<void>)[] = [
    async (key) => (await openSocket(app, { key })).end(),
    async (key) => {
      const socket = await openSocket(app, { key });
      socket.send(subscribeMessage('1', EVENTS));
      socket.socket.close();
      await socket.closed;
    },
    // gone while its key is looked up
    async (key) => {
      const socket = await openRawSocket(app.wsUrl);
      socket.send(credentials(key));
      await socket.end();
    },
    async () => {
      const socket = await openRawSocket(app.wsUrl);
      socket.send(credentials('nobody'));
      await socket.closed;
    },
    async (key) => {
      const socket = await openRawSocket(app.wsUrl);
      socket.send(credentials(key), credentials(key));
      await socket.closed;
    },
    async (key) => {
      const socket = await openSocket(app, { key });
      socket.socket.send('no message');
      await socket.closed;
    },
    async (key) => {
      const stream = await openStream(app, { key });
      stream.end();
      await stream.ended;
    },
    // refused behind its place: the cursor is none
    async (key) => {
      const query = 'subscription { events(after: "garbage") { id } }';
      const stream = await openSse(app.url, { key, query });
      expect(stream.status).toBe(400);
      await stream.ended;
    },
    (key) => hangUpBehind(app, key),
  ];

  it('are all given back after 1,000 connections, whichever way they end', async () => {
    const user = await createUser(app);
    for (let round = 0; round * ways.length < 1_000; round += 4)
      await Promise.all(Array.from({ length: 4 }, () => ways.map((way) => way(user.key))).flat());
    await untilHeld(app, 0);
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0, { describe: 'no streams' });
  });

  it('are held by a client that stays', async () => {
    const client = stockClient(app.wsUrl, app.key);
    collect(client, EVENTS);
    const stream = await openStream(app, app);
    await untilHeld(app, 2);
    await client.dispose();
    stream.end();
    await untilHeld(app, 0);
  });
});

/** A stream that waits on its connection behind another's answer, and never gets to its own. */
async function hangUpBehind(app: TestApp, key: string): Promise<void> {
  const request = (query: string, accept: string) => {
    const body = JSON.stringify({ query });
    return [
      'POST /graphql HTTP/1.1',
      'host: a',
      `authorization: Bearer ${key}`,
      'content-type: application/json',
      `accept: ${accept}`,
      `content-length: ${body.length}`,
      '',
      body,
    ].join('\r\n');
  };
  const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
  socket.on('error', () => {});
  const first = request(EVENTS, 'text/event-stream');
  socket.write(first + first);
  await new Promise<void>((resolve) => socket.once('data', () => resolve()));
  socket.destroy();
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}
