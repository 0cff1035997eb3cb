import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { settledHead } from '../support/live-handover.ts';
import { notesWrite } from '../support/probe-domain.ts';
import { type RestartingApp, startRestartingApp } from './restarting-app.ts';
import { type AnyClient, CLIENTS } from './stock-clients.ts';

let app: RestartingApp;
beforeAll(async () => {
  app = await startRestartingApp();
});
afterAll(() => app?.close());

const WRITE = 'mutation { notesWrite(count: 1) { __typename ... on NotesWriteSuccess { ids cursor } } }';
const EVENTS = 'subscription { events { position subjectId } }';

interface Opened {
  readonly client: AnyClient;
  readonly seen: { position: string; subjectId: string }[];
}

function open(name: string): Opened {
  const create = CLIENTS[name];
  if (create === undefined) throw new Error(`there is no client "${name}"`);
  const client = create(app);
  onTestFinished(() => client.close());
  const seen: Opened['seen'] = [];
  return { client, seen };
}

test.each(Object.keys(CLIENTS))('%s asks, changes and watches', async (name) => {
  const { client, seen } = open(name);
  const { viewer } = await client.ask('query { viewer { scopes } }');
  expect(viewer.scopes).toContain('events:read');
  const stop = client.subscribe(EVENTS, ({ events }) => void seen.push(events));
  // when it is taken is not told by every client: what is written until then is not for it
  await eventually(async () => {
    await notesWrite(app.staying, { count: 1 });
    return seen.length > 0;
  });
  const { notesWrite: written } = await client.ask(WRITE);
  expect(written.__typename).toBe('NotesWriteSuccess');
  await eventually(() => seen.some(({ subjectId }) => subjectId === written.ids[0]));
  const positions = seen.map(({ position }) => Number(position));
  expect(positions).toEqual(positions.map((_, at) => (positions[0] ?? 0) + at));
  stop();
  const refused = client.ask('query { nothing }');
  await expect(refused).rejects.toBeDefined();
});

test('each comes back when the server was drained and started again; ours have missed nothing', async () => {
  const names = Object.keys(CLIENTS);
  const opened = names.map(open);
  for (const { client, seen } of opened) client.subscribe(EVENTS, ({ events }) => void seen.push(events));
  await eventually(async () => {
    await notesWrite(app.staying, { count: 1 });
    return opened.every(({ seen }) => seen.length > 0);
  });
  await app.stop();
  const { cursor, ids } = await notesWrite(app.staying, { count: 5 });
  await settledHead(app.staying, cursor);
  await app.start();
  const later = new Set<string>();
  const hasCome = ({ seen }: Opened) => seen.some(({ subjectId }) => later.has(subjectId));
  await eventually(async () => {
    for (const id of (await notesWrite(app.staying, { count: 1 })).ids) later.add(id);
    return opened.every(hasCome);
  });
  const missed = names.filter(
    (_, at) => !ids.every((id) => opened[at]?.seen.some(({ subjectId }) => subjectId === id)),
  );
  expect(missed).toEqual(names.filter((name) => !name.includes('ours')));
  for (const [at, name] of names.entries()) {
    if (!name.includes('ours')) continue;
    const positions = opened[at]?.seen.map(({ position }) => Number(position)) ?? [];
    expect(positions).toEqual(positions.map((_, index) => (positions[0] ?? 0) + index));
  }
});
