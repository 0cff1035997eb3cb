import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';
import { post } from '../app.ts';
import type { Ledger } from './ledger.ts';
import type { Pace } from './pace.ts';

export interface WritersOptions {
  readonly databaseUrl: string;
  readonly urls: readonly string[];
  readonly key: string;
  readonly pace: Pace;
  readonly ledger: Ledger;
  readonly random: () => number;
  /** Half of them by SQL, half by mutations. */
  readonly count: number;
}

/** Writes until the pace gives no more leave. @throws Error what a writer could not go on after */
export async function writeAll(options: WritersOptions): Promise<void> {
  const pool = new pg.Pool({ connectionString: options.databaseUrl, max: options.count });
  try {
    const bySql = Math.floor(options.count / 2);
    await Promise.all(
      Array.from({ length: options.count }, (_, at) =>
        at < bySql ? writeBySql(pool, options) : writeByMutations(at, options),
      ),
    );
  } catch (error) {
    options.pace.end();
    throw error;
  } finally {
    await pool.end();
  }
}

const EMIT = 'select fanfare.emit($1, $2, $3, $4, $5) as id';
const SUBJECTS = 40;
const ROLLED_BACK = 0.1;
/** One transaction in so many is long, and writes the rare event. */
const LONG_EVERY = 1 / 30;

/** Transactions of one to three events, held open for a while; one in ten is rolled back. */
async function writeBySql(pool: pg.Pool, { pace, ledger, random }: WritersOptions): Promise<void> {
  for (;;) {
    const isLong = random() < LONG_EVERY;
    const count = await pace.take(isLong ? 1 : 1 + Math.floor(random() * 3));
    if (count === 0) return;
    const emits = isLong ? [customerCreated(random)] : stockChanges(count, random);
    const client = await pool.connect();
    try {
      await client.query('begin');
      const ids: string[] = [];
      for (const values of emits) ids.push((await client.query<{ id: string }>(EMIT, values)).rows[0]?.id ?? '');
      await wait(isLong ? 200 + random() * 800 : random() * 20);
      const isKept = random() >= ROLLED_BACK;
      await client.query(isKept ? 'commit' : 'rollback');
      for (const id of ids) (isKept ? ledger.emitted : ledger.rolledBack).add(id);
      if (isKept) pace.done(count);
      else pace.giveBack(count);
    } finally {
      client.release();
    }
  }
}

type EmitValues = readonly (string | readonly string[] | null)[] & unknown[];

function stockChanges(count: number, random: () => number): EmitValues[] {
  const subjects = Array.from({ length: count }, () => `prod_chaos${Math.floor(random() * SUBJECTS)}`);
  const payload = JSON.stringify({ sku: 'CHAOS', stock: 1, by: 1, reason: 'ADJUSTED', orderId: null });
  // in one order: two transactions would lock each other out
  return subjects.sort().map((subject) => ['acc_default', 'stock.changed', subject, payload, ['stock']]);
}

function customerCreated(random: () => number): EmitValues {
  const customerId = `cust_chaos${Math.floor(random() * 2 ** 40)}`;
  const customer = { customerId, version: 1, name: 'Chaos', email: null, country: null };
  return ['acc_default', 'customer.created', customerId, JSON.stringify({ customer }), null];
}

const CREATE = `mutation ($input: ProductCreateInput!) {
  productCreate(input: $input) { __typename ... on ProductCreateSuccess { product { id } } }
}`;
const MAX_TRIES = 400;

/** Changes with idempotency keys, each tried on one node after the other until it is acknowledged. */
async function writeByMutations(writer: number, { urls, key, pace, ledger }: WritersOptions): Promise<void> {
  for (let at = 0; (await pace.take(1)) > 0; at += 1) {
    const name = `${writer}-${at}`;
    ledger.created.set(name, await create(name, { urls, key, first: writer }));
    pace.done(1);
  }
}

interface Door {
  readonly urls: readonly string[];
  readonly key: string;
  /** With which node it begins. */
  readonly first: number;
}

async function create(name: string, { urls, key, first }: Door): Promise<string> {
  const input = { sku: `CHAOS-${name}`, title: name, price: { amount: '0.01', currency: 'GBP' }, stock: 1 };
  let last: unknown;
  for (let tried = 0; tried < MAX_TRIES; tried += 1) {
    const url = urls[(first + tried) % urls.length] ?? '';
    const asked = post({ url, key }, { query: CREATE, variables: { input } }, { 'idempotency-key': `chaos:${name}` });
    last = await asked.catch((error: unknown) => error);
    // an answer, of the shape that the document asks for
    const id = (last as Awaited<typeof asked>).data?.productCreate?.product?.id;
    if (typeof id === 'string') return id;
    await wait(50);
  }
  throw new Error(`the change ${name} was never acknowledged: ${JSON.stringify(last)}`, { cause: last });
}
