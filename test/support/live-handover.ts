import { expect } from 'vitest';
import type { TestApp } from './app.ts';
import { eventually } from './eventually.ts';
import { stockClient } from './live-client.ts';
import { type PositionWatch, watchPositions } from './position-watch.ts';
import { notesWrite } from './probe-domain.ts';

/** Writers that go on until they are stopped. */
export interface Writers {
  /** The cursors of changes so far. */
  readonly cursors: string[];
  stop(): Promise<void>;
}

/** Writes events at full speed, by so many at once. */
export function startWriters(app: Pick<TestApp, 'post'>, { count = 3, events = 3 } = {}): Writers {
  const cursors: string[] = [];
  let isOver = false;
  const write = async () => {
    while (!isOver) cursors.push((await notesWrite(app, { count: events })).cursor);
  };
  const running = Promise.all(Array.from({ length: count }, write));
  return {
    cursors,
    async stop() {
      isOver = true;
      await running;
    },
  };
}

/** The account's last position, when the change of this cursor has its own: the cursor waits for it. */
export async function settledHead(app: Pick<TestApp, 'post'>, cursor: string): Promise<number> {
  const waited = await app.post('query ($c: String!) { events(after: $c, first: 1) { nodes { id } } }', { c: cursor });
  expect(waited.errors).toBeUndefined();
  const answer = await app.post('{ events(last: 1) { nodes { position } } }');
  return Number(answer.data.events.nodes[0].position);
}

/** Waits until an app that alone stamps the events of its one account, none of them parked, has published those up to `head`. */
export async function untilPublished({ observations }: Pick<TestApp, 'observations'>, head: number): Promise<void> {
  const published = () =>
    observations.reduce((sum, { name, events }) => (name === 'relay.batch' ? sum + Number(events) : sum), 0);
  await eventually(() => published() >= head, { describe: `${head} events to be published` });
}

/**
 * Attaches subscribers at cursors of all kinds while writers are at full speed; each must get exactly what lies behind its
 * cursor: of an earlier event, the head, or a change's own that may not be stamped yet.
 */
export async function attachUnderLoad(app: TestApp, trials: number): Promise<void> {
  const clients = Array.from({ length: Math.ceil(trials / 50) + 1 }, () => stockClient(app.wsUrl, app.key));
  const writers = startWriters(app);
  const watches: { readonly watch: PositionWatch; readonly after: number | Promise<number> }[] = [];
  await eventually(() => writers.cursors.length > 20);
  for (let trial = 0; trial < trials; trial++) {
    const client = clients[trial % clients.length];
    if (client === undefined) throw new Error('there is a client');
    const { cursor, after } = await pickCursor(app, writers, trial);
    // three groups of equal subscribers, and one for each that stands alone
    const alias = trial % 4 === 3 ? `p${trial}: position` : `q${trial % 4}: position`;
    const query = `subscription ($after: String) { events(after: $after) { position ${alias} } }`;
    watches.push({ watch: watchPositions(client, cursor, query), after });
  }
  await writers.stop();
  const head = await settledHead(app, writers.cursors.at(-1) ?? '');
  for (const { watch, after } of watches) await watch.expectSuffix(await after, head);
  await Promise.all(clients.map((client) => client.dispose()));
}

async function pickCursor(
  app: TestApp,
  writers: Writers,
  trial: number,
): Promise<{ cursor: string; after: number | Promise<number> }> {
  if (trial % 3 === 0) {
    const answer = await app.post('{ head events(last: 1) { nodes { position cursor } } }');
    const { cursor, position } = answer.data.events.nodes[0];
    return { cursor, after: Number(position) };
  }
  if (trial % 3 === 1) {
    const answer = await app.post('{ events(last: 100) { nodes { position cursor } } }');
    const { nodes } = answer.data.events;
    const { cursor, position } = nodes[(trial * 37) % nodes.length];
    return { cursor, after: Number(position) };
  }
  // the newest change: the cursor itself waits for its stamp here, so that the position can be looked up behind it
  const { cursor, ids } = await notesWrite(app, { count: 1 });
  writers.cursors.push(cursor);
  const position = async () => {
    await app.post('query ($c: String!) { events(after: $c, first: 1) { nodes { id } } }', { c: cursor });
    const query = 'query ($ids: [ID!]) { events(filter: { subjects: $ids }) { nodes { position } } }';
    return Number((await app.post(query, { ids })).data.events.nodes[0].position);
  };
  return { cursor, after: position() };
}
