import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createUser } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { settledHead } from '../support/live-handover.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';
import { followAll, upTo, WAYS } from './followed.ts';

let app: TestApp;
beforeAll(async () => {
  const { domain } = createProbeDomain();
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
});
afterAll(() => app?.stop());

test('a key that may not see all events is told so', async () => {
  const { post } = await createUser(app);
  const query = '{ viewer { seesAllEvents } }';
  expect(await app.post(query)).toEqual({ data: { viewer: { seesAllEvents: true } } });
  expect(await post(query)).toEqual({ data: { viewer: { seesAllEvents: false } } });
});

describe.each(WAYS)('over %s', (way, create) => {
  test('positions may have gaps for a key that may not see all events', async () => {
    const { key } = await createUser(app);
    const client = create({ url: app.url, key, random: () => 0.02 });
    onTestFinished(() => client.dispose());
    const { cursor } = await notesWrite(app, { count: 1 });
    const from = await settledHead(app, cursor);
    const followed = followAll(client, cursor);
    for (const kind of ['written', 'hidden', 'written', 'hidden', 'hidden', 'written'] as const) {
      await notesWrite(app, { count: 1, kind });
    }
    await eventually(() => expect(followed.positions()).toEqual([1, 3, 6].map((each) => from + each)));
    expect(followed.error).toBeUndefined();
  });

  test('a key that expires is followed by the next, and no event is lost or repeated', async () => {
    const expiringAt = async (ms: number) => (await createUser(app, { expiresAt: new Date(ms) })).key;
    const endsAt = Date.now() + 6_000;
    const keys: Promise<string>[] = [];
    let connections = 0;
    const client = create({
      url: app.url,
      key() {
        const next = expiringAt(keys.length === 0 ? endsAt : endsAt + 60_000);
        keys.push(next);
        return next;
      },
      random: () => 0.02,
      on: {
        connected: () => {
          connections += 1;
        },
      },
    });
    onTestFinished(() => client.dispose());
    const { cursor } = await notesWrite(app, { count: 1 });
    const from = await settledHead(app, cursor);
    const followed = followAll(client, cursor);
    await eventually(() => client.state === 'live');
    const first = await notesWrite(app, { count: 3 });
    await settledHead(app, first.cursor);
    // over WebSocket by a message, before it ends; over SSE by another request, when it has ended
    await eventually(() => keys.length === 2 && Date.now() > endsAt + 1_000);
    await notesWrite(app, { count: 3 });
    await eventually(() => followed.positions().length === 6);
    expect(followed.positions()).toEqual(upTo(6).map((each) => from + each));
    expect(connections).toBe(way === 'WebSocket' ? 1 : 2);
    await eventually(() => client.state === 'live');
  });
});
