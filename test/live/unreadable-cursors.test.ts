import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { queryBeside } from '../support/installation.ts';
import { collect, openSse, stockClient } from '../support/live-client.ts';
import { settledHead } from '../support/live-handover.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { startSecondApp } from '../support/second-app.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const QUERY = 'subscription ($after: String) { events(after: $after) { position } }';
const { domain } = createProbeDomain();

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

/** Asks by each channel; gives what each answers. */
async function refusals(on: TestApp, after: string) {
  const client = stockClient(on.wsUrl, on.key);
  const overSocket = collect(client, QUERY, { after });
  const asking = openSse(on.url, { key: on.key, query: QUERY, variables: { after } });
  const pulled = on.post('query ($after: String) { events(after: $after) { nodes { position } } }', { after });
  const sse = await asking;
  await sse.ended;
  await eventually(() => overSocket.error !== undefined);
  await client.dispose();
  expect(overSocket.results).toEqual([]);
  const [bySocket] = overSocket.error as { extensions: Record<string, unknown> }[];
  const [bySse] = JSON.parse(sse.text()).errors;
  const [byPull] = (await pulled).errors ?? [];
  expect([bySse.extensions, byPull?.extensions]).toEqual([bySocket?.extensions, bySocket?.extensions]);
  return { status: sse.status, extensions: bySocket?.extensions ?? {} };
}

it('a cursor past retention is refused with the earliest that works', async () => {
  const { cursor } = await notesWrite(app, { count: 1 });
  const head = await settledHead(app, (await notesWrite(app, { count: 10 })).cursor);
  const first = (await app.post('{ events(first: 1) { nodes { cursor } } }')).data.events.nodes[0].cursor;
  await queryBeside(app, 'delete from fanfare.log where position <= 5');
  for (const old of [first, cursor]) {
    const { status, extensions } = await refusals(app, old);
    expect([status, extensions.code]).toEqual([400, 'CURSOR_EXPIRED']);
    const sse = await openSse(app.url, { key: app.key, query: QUERY, variables: { after: extensions.earliestCursor } });
    await eventually(() => sse.results().length === head - 5);
    expect(sse.results()[0]?.data.events.position).toBe('6');
    sse.end();
  }
});

it('a cursor from before the log was restored is refused', async () => {
  await settledHead(app, (await notesWrite(app, { count: 1 })).cursor);
  const old = (await app.post('{ head }')).data.head;
  const [before] = await queryBeside<{ epoch: string }>(app, 'select epoch from fanfare.installation');
  await queryBeside(app, 'update fanfare.installation set epoch = $1', ['0123456789abcdef']);
  const restored = await startSecondApp(app, { domain, env: { ROLES: 'api' } });
  expect(await refusals(restored, old)).toEqual({ status: 400, extensions: { code: 'EPOCH_CHANGED' } });
  await restored.stop();
  await queryBeside(app, 'update fanfare.installation set epoch = $1', [before?.epoch]);
});

it('a cursor of a change that gets no position is refused after its wait', async () => {
  const { cursor } = await notesWrite(app, { count: 1 });
  await settledHead(app, cursor);
  // a place of its own, where nobody stamps
  const still = await startApp({
    backend: 'postgres and redis',
    domain,
    domainMigrations: toyMigrations,
    env: { ROLES: 'api' },
  });
  const pending = (await notesWrite(still, { count: 1 })).cursor;
  expect(await refusals(still, pending)).toEqual({ status: 503, extensions: { code: 'CURSOR_PENDING' } });
  // another process stamps: the same cursor works
  const relay = await startSecondApp(still, { domain, env: { ROLES: 'relay' } });
  await eventually(async () => (await settledHead(still, pending)) === 1);
  await relay.stop();
  await still.stop();
});
