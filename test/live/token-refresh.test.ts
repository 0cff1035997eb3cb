import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAccountUser, createUser, readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, type RawSocket, subscribeMessage } from '../support/live-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  const { domain } = createProbeDomain();
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const EVENTS = 'subscription { events { position } }';
const streams = (count: number) =>
  eventually(async () => (await readMetric(app, 'fanfare_streams')) === count, { describe: `${count} streams` });

/** Sends a ping with a key; gives the payload of its pong. */
async function refresh(socket: RawSocket, authorization: unknown, name = 'authorization') {
  const before = socket.received.length;
  socket.send({ type: 'ping', payload: { [name]: authorization } });
  const pong = await eventually(
    () => socket.received.slice(before).find(({ type }) => type === 'pong') ?? Promise.reject(new Error('no pong')),
  );
  return pong.payload;
}

const positionsOf = (socket: RawSocket, id: string) =>
  socket.received.flatMap((message) =>
    message.id === id && message.type === 'next' ? [Number(message.payload.data.events.position)] : [],
  );

describe('the acknowledgement', () => {
  it('says when the key ends, and nothing where it has no end', async () => {
    const expiresAt = new Date(Date.now() + 3_600_000);
    const user = await createUser(app, { expiresAt });
    const [ending, endless] = [await openRawSocket(app.wsUrl, user), await openRawSocket(app.wsUrl, app)];
    expect(ending.received).toEqual([{ type: 'connection_ack', payload: { expiresAt: expiresAt.toISOString() } }]);
    expect(endless.received).toEqual([{ type: 'connection_ack' }]);
    await Promise.all([ending.end(), endless.end()]);
  });
});

describe('a socket whose key expires', () => {
  it('goes on with a key that came by a ping, without losing or repeating an event', async () => {
    const endsAt = new Date(Date.now() + 4_000);
    const [first, second] = [await createUser(app, { expiresAt: endsAt }), await createUser(app)];
    const [socket, witness] = [await openRawSocket(app.wsUrl, first), await openRawSocket(app.wsUrl, first)];
    socket.send(subscribeMessage('1', EVENTS));
    await streams(1);
    await notesWrite(app, { count: 5 });
    expect(await refresh(socket, `Bearer ${second.key}`, 'Authorization')).toEqual({
      authorization: { expiresAt: null },
    });
    await notesWrite(app, { count: 5 });
    expect((await witness.closed).code).toBe(4403); // the first key has ended
    await notesWrite(app, { count: 5 });
    await eventually(() => positionsOf(socket, '1').length === 15);
    const [from = 0] = positionsOf(socket, '1');
    expect(positionsOf(socket, '1')).toEqual(Array.from({ length: 15 }, (_, at) => from + at));
    // it is the new key's in all: that one's end ends it
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: second.id });
    expect((await socket.closed).code).toBe(4403);
    expect(socket.received.at(-1)).toMatchObject({ id: '1', payload: [{ extensions: { code: 'UNAUTHENTICATED' } }] });
    await streams(0);
  });

  it('is closed at its end otherwise, most often within a second', async () => {
    const lateMs: number[] = [];
    for (let round = 0; round < 3; round++) {
      const expiresAt = new Date(Date.now() + 1_500);
      const { key } = await createUser(app, { expiresAt });
      const socket = await openRawSocket(app.wsUrl);
      socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } });
      expect((await socket.closed).code).toBe(4403);
      lateMs.push(Date.now() - expiresAt.getTime());
    }
    // the middle one: a busy machine may hold up one
    expect(lateMs.sort((a, b) => a - b)[1]).toBeLessThan(1_000);
  });

  it('may be refreshed again and again, also by several pings at once', async () => {
    const users = await Promise.all(Array.from({ length: 4 }, () => createUser(app)));
    const socket = await openRawSocket(app.wsUrl, app);
    socket.send(...users.map(({ key }) => ({ type: 'ping', payload: { authorization: `Bearer ${key}` } })));
    await eventually(() => socket.received.filter(({ type }) => type === 'pong').length === 4);
    // the last one's word counts
    socket.send(subscribeMessage('who', '{ viewer { id } }'));
    const answer = await socket.find(({ id }) => id === 'who');
    expect(answer.payload.data.viewer.id).toBe(users[3]?.id);
    expect(await readMetric(app, 'fanfare_connections')).toBe(1);
    await socket.end();
    await eventually(async () => (await readMetric(app, 'fanfare_connections')) === 0);
  });
});

describe('a refused refresh', () => {
  it('says why, never gives the key back, and leaves everything as it was', async () => {
    const [user, foreign] = [await createUser(app), await createAccountUser(app)];
    const revoked = await createUser(app);
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: revoked.id });
    const socket = await openRawSocket(app.wsUrl, user);
    socket.send(subscribeMessage('1', EVENTS));
    await streams(1);
    const cases: [unknown, string][] = [
      [`Bearer ${foreign.key}`, 'FORBIDDEN'],
      [`Bearer ${revoked.key}`, 'UNAUTHENTICATED'],
      ['Bearer nobody', 'UNAUTHENTICATED'],
      [user.key, 'UNAUTHENTICATED'],
      [5, 'UNAUTHENTICATED'],
      [null, 'UNAUTHENTICATED'],
    ];
    for (const [authorization, code] of cases) {
      const payload = await refresh(socket, authorization);
      expect(payload).toEqual({ authorization: { error: { code, message: expect.any(String) } } });
      expect(JSON.stringify(payload)).not.toContain(foreign.key);
    }
    await notesWrite(app, { count: 1 });
    await eventually(() => positionsOf(socket, '1').length === 1);
    socket.send(subscribeMessage('who', '{ viewer { id } }'));
    expect((await socket.find(({ id }) => id === 'who')).payload.data.viewer.id).toBe(user.id);
    await socket.end();
    await streams(0);
  });

  it('comes before the acknowledgement too, and the socket may still begin', async () => {
    const socket = await openRawSocket(app.wsUrl);
    expect(await refresh(socket, `Bearer ${app.key}`)).toMatchObject({
      authorization: { error: { code: 'UNAUTHENTICATED' } },
    });
    socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${app.key}` } });
    await socket.find(({ type }) => type === 'connection_ack');
    await socket.end();
  });

  it('is what a key meets that has as many connections as it may', async () => {
    const limited = await startApp({
      backend: 'embedded',
      domain: createProbeDomain().domain,
      domainMigrations: toyMigrations,
      env: { CONNECTIONS_PER_KEY: '1' },
    });
    const [one, other] = [await createUser(limited), await createUser(limited)];
    const [mine, theirs] = [await openRawSocket(limited.wsUrl, one), await openRawSocket(limited.wsUrl, other)];
    expect(await refresh(mine, `Bearer ${other.key}`)).toMatchObject({
      authorization: { error: { code: 'RATE_LIMITED' } },
    });
    await theirs.end();
    await eventually(async () => 'expiresAt' in (await refresh(mine, `Bearer ${other.key}`)).authorization);
    // the place of the first is free again
    const again = await openRawSocket(limited.wsUrl, one);
    await Promise.all([mine.end(), again.end()]);
    await eventually(async () => (await readMetric(limited, 'fanfare_connections')) === 0);
    await limited.stop();
  });
});

it('a key that lacks a scope ends with FORBIDDEN what needs it, and nothing else on the socket', async () => {
  const [full, less] = [await createUser(app), await createUser(app, { scopes: ['events:read', 'notes:write'] })];
  const socket = await openRawSocket(app.wsUrl, full);
  const neighbour = await openRawSocket(app.wsUrl, full);
  socket.send(subscribeMessage('notes', 'subscription { noteWritten { position } }'));
  socket.send(subscribeMessage('none', 'subscription { events(filter: { types: [] }) { position } }'));
  neighbour.send(subscribeMessage('notes', 'subscription { noteWritten { position } }'));
  await streams(3);
  expect(await refresh(socket, `Bearer ${less.key}`)).toEqual({ authorization: { expiresAt: null } });
  expect(await socket.find(({ type }) => type === 'error')).toMatchObject({
    id: 'notes',
    payload: [{ extensions: { code: 'FORBIDDEN' } }],
  });
  expect(await readMetric(app, 'fanfare_streams')).toBe(2);
  socket.send(subscribeMessage('again', 'subscription { noteWritten { position } }'));
  await socket.find(({ id, type }) => id === 'again' && type === 'error');
  await notesWrite(app, { count: 1 });
  await neighbour.find(({ type }) => type === 'next');
  await Promise.all([socket.end(), neighbour.end()]);
  await streams(0);
});

it('a ping without a key is answered as it came', async () => {
  const socket = await openRawSocket(app.wsUrl, app);
  socket.send({ type: 'ping', payload: { any: ['thing'] } }, { type: 'ping' });
  await eventually(() => socket.received.length === 3);
  expect(socket.received.slice(1)).toEqual([{ type: 'pong', payload: { any: ['thing'] } }, { type: 'pong' }]);
  await socket.end();
});
