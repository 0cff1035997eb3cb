import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createUser, readMetric } from '../support/api-user.ts';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, openSse, subscribeMessage } from '../support/live-client.ts';
import { withClient } from '../support/postgres-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const QUERY = 'subscription { events { position } }';
/** The promise is 2 s; the rest is for a busy machine: nobody else would end them. */
const WITHIN_MS = 20_000;

describe.each(BACKENDS)('a key on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const open = async (key: string) => {
    const socket = await openRawSocket(app.wsUrl, { key });
    socket.send(subscribeMessage('1', QUERY), subscribeMessage('2', 'subscription { noteWritten { position } }'));
    return {
      socket,
      idle: await openRawSocket(app.wsUrl, { key }),
      sse: await openSse(app.url, { key, query: QUERY }),
    };
  };
  type Opened = Awaited<ReturnType<typeof open>>;

  const expectEnded = async ({ socket, idle, sse }: Opened) => {
    expect(await socket.closed).toEqual({ code: 4403, reason: 'Forbidden' });
    expect((await idle.closed).code).toBe(4403);
    const errors = socket.received.filter(({ type }) => type === 'error');
    expect(errors.map(({ id }) => id).sort()).toEqual(['1', '2']);
    for (const { payload } of errors) expect(payload[0].extensions.code).toBe('UNAUTHENTICATED');
    await sse.ended;
    expect(sse.results().at(-1)?.errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    expect(sse.events.at(-1)?.event).toBe('complete');
  };

  it('that is revoked loses its streams and sockets, and others do not', async () => {
    const [user, other] = [await createUser(app), await createUser(app)];
    const [mine, theirs] = [await open(user.key), await open(other.key)];
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 6);
    // both are in the same groups
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(2);
    const before = performance.now();
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: user.id });
    await expectEnded(mine);
    expect(performance.now() - before).toBeLessThan(WITHIN_MS);
    const received = mine.socket.received.length;
    await notesWrite(app, { count: 3 });
    await eventually(() => theirs.sse.results().length === 3);
    await eventually(() => theirs.socket.received.filter(({ type }) => type === 'next').length === 6);
    expect(mine.socket.received.length).toBe(received);
    expect((await user.post('{ head }')).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    theirs.sse.end();
    await Promise.all([theirs.socket.end(), theirs.idle.end()]);
  });

  it('that expires loses them at its time', async () => {
    const lifeMs = 3_000; // long enough to open all of them, on a busy machine, too
    const user = await createUser(app, { expiresAt: new Date(Date.now() + lifeMs) });
    const before = performance.now();
    await expectEnded(await open(user.key));
    expect(performance.now() - before).toBeLessThan(lifeMs + WITHIN_MS);
    expect((await user.post('{ head }')).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  });
});

describe('a key that loses a scope', () => {
  it('loses what depends on it, on the same socket, and nothing else', async () => {
    const app = await startApp({
      backend: 'postgres',
      domain: createProbeDomain().domain,
      domainMigrations: toyMigrations,
    });
    const user = await createUser(app);
    const socket = await openRawSocket(app.wsUrl, { key: user.key });
    socket.send(subscribeMessage('notes', QUERY));
    socket.send(subscribeMessage('none', 'subscription { events(filter: { types: [] }) { position } }'));
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 2);
    await withClient(app.env.DATABASE_URL ?? '', (client) =>
      client.query(`update fanfare.api_key set scopes = array_remove(scopes, 'notes:read') where id = $1`, [
        user.id.slice(4),
      ]),
    );
    await eventually(() => socket.received.some(({ type }) => type === 'error'));
    const [error] = socket.received.filter(({ type }) => type === 'error');
    expect(error).toMatchObject({ id: 'notes', payload: [{ extensions: { code: 'FORBIDDEN' } }] });
    expect(await readMetric(app, 'fanfare_streams')).toBe(1);
    socket.send(subscribeMessage('again', 'subscription { noteWritten { position } }'));
    await eventually(() => socket.received.some(({ id, type }) => id === 'again' && type === 'error'));
    await socket.end();
    await app.stop();
  });
});
