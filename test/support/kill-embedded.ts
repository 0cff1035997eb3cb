import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, inject } from 'vitest';
import { makeKey } from '../../src/identity/key-format.ts';
import { type GraphqlAnswer, post } from './app.ts';
import { eventually } from './eventually.ts';
import { type FanfareProcess, spawnFanfare, startFanfare } from './fanfare-process.ts';

export interface KillOptions {
  readonly times: number;
  /** Of the moments at which it is killed. */
  readonly seed: number;
}

interface Acknowledged {
  readonly id: string;
  readonly sku: string;
}

const WRITERS = 4;

/**
 * Kills the embedded server again and again, while starting (the very first time too) and under load, and keeps a list
 * of what it has acknowledged. Afterwards all of it is there, each with its one event, in a log without gaps.
 */
export async function killEmbedded({ times, seed }: KillOptions): Promise<{ readonly acknowledged: number }> {
  const random = seeded(seed);
  const dataDir = await mkdtemp(join(inject('run').scratchDir, 'killed-'));
  const env = { DATA_DIR: dataDir, ADMIN_API_KEY: makeKey() };
  const ledger: Acknowledged[] = [];
  for (let kill = 0; kill < times; kill++) {
    if (kill % 3 === 0) await killWhileStarting(env, random() * (kill === 0 ? 3_000 : 1_500));
    else await killUnderLoad({ env, key: env.ADMIN_API_KEY, ledger }, random() * 1_000);
  }
  const server = await startFanfare(env);
  await compareWithLog(server, env.ADMIN_API_KEY, ledger);
  expect(await server.stop()).toBe(0);
  await rm(dataDir, { recursive: true, force: true });
  return { acknowledged: ledger.length };
}

async function killWhileStarting(env: Readonly<Record<string, string>>, afterMs: number): Promise<void> {
  const { child, exited } = await spawnFanfare(env);
  await Promise.race([wait(afterMs), exited]); // the moment is what is drawn by lot, not something to wait for
  child.kill('SIGKILL');
  await exited;
}

interface Load {
  readonly env: Readonly<Record<string, string>>;
  readonly key: string;
  readonly ledger: Acknowledged[];
}

async function killUnderLoad({ env, key, ledger }: Load, afterMs: number): Promise<void> {
  const server = await startFanfare(env);
  const before = ledger.length;
  const isWorking = eventually(() => ledger.length > before, { describe: 'an acknowledged change' });
  const killed = Promise.all([wait(afterMs), isWorking]).finally(() => server.kill());
  await Promise.all(Array.from({ length: WRITERS }, () => writeUntilGone(server, key, ledger)));
  await killed;
}

async function writeUntilGone(server: FanfareProcess, key: string, ledger: Acknowledged[]): Promise<void> {
  for (;;) {
    const sku = `K${crypto.randomUUID()}`;
    const answer = await createProduct(server, key, sku).catch(() => undefined);
    if (answer === undefined) return;
    const id: unknown = answer.data?.productCreate?.product?.id;
    if (typeof id === 'string') ledger.push({ id, sku });
  }
}

function createProduct({ url }: FanfareProcess, key: string, sku: string): Promise<GraphqlAnswer> {
  const query =
    'mutation ($input: ProductCreateInput!) { productCreate(input: $input) { ... on ProductCreateSuccess { product { id } } } }';
  const input = { sku, title: 'killed', price: { amount: '1.00', currency: 'GBP' }, stock: 1 };
  return post({ url, key }, { query, variables: { input } });
}

async function compareWithLog(server: FanfareProcess, key: string, ledger: readonly Acknowledged[]): Promise<void> {
  // what was captured right before the last kill is stamped after the start
  const events = await eventually(async () => {
    const pulled = await pullAll(server, key);
    const created = new Set(pulled.map(({ subjectId }) => subjectId));
    expect(ledger.filter(({ id }) => !created.has(id))).toEqual([]);
    return pulled;
  });
  expect(events.map(({ position }) => position)).toEqual(events.map((_event, at) => String(at + 1)));
  const created = events.filter(({ name }) => name === 'product.created').map(({ subjectId }) => subjectId);
  expect(new Set(created).size).toBe(created.length);
  for (let at = 0; at < ledger.length; at += 100) {
    const ids = ledger.slice(at, at + 100).map(({ id }) => id);
    const { data } = await post(
      { url: server.url, key },
      { query: 'query ($ids: [ID!]!) { nodes(ids: $ids) { id } }', variables: { ids } },
    );
    expect(data.nodes).toEqual(ids.map((id) => ({ id })));
  }
}

interface PulledEvent {
  readonly position: string;
  readonly name: string;
  readonly subjectId: string;
}

/** The whole log, page by page. */
export async function pullAll({ url }: { readonly url: string }, key: string): Promise<PulledEvent[]> {
  const query =
    'query ($after: String) { events(first: 100, after: $after) { nodes { position name subjectId } pageInfo { endCursor hasNextPage } } }';
  const events: PulledEvent[] = [];
  for (let after: string | null = null; ; ) {
    const answer: GraphqlAnswer = await post({ url, key }, { query, variables: { after } });
    events.push(...answer.data.events.nodes);
    if (!answer.data.events.pageInfo.hasNextPage) return events;
    after = answer.data.events.pageInfo.endCursor;
  }
}

/** Mulberry32: numbers in [0, 1) that are the same for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
