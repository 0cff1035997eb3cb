import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { makeKey } from '../../src/identity/key-format.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type FanfareProcess, startFanfare } from '../support/fanfare-process.ts';
import { pullAll } from '../support/kill-embedded.ts';
import { freePort } from '../support/servers.ts';
import {
  ask,
  type Client,
  finishTool,
  manyInvoices,
  newClient,
  newLedger,
  readLedger,
  runTool,
  totalPence,
  writeCsv,
} from './tool.ts';

const INVOICES = 30;
const ROWS = manyInvoices(INVOICES);

const adminKey = makeKey();
let database: TestDatabase;
let env: Readonly<Record<string, string>>;
let server: FanfareProcess;
let shop: Client;

beforeAll(async () => {
  database = await createTestDatabase();
  const port = String(await freePort());
  env = { DATABASE_URL: database.url, SECRETS_KEY: 'ab'.repeat(32), ADMIN_API_KEY: adminKey, PORT: port };
  server = await startFanfare(env);
});
beforeEach(async () => {
  shop = await newClient({ url: server.url, key: adminKey });
});
afterAll(async () => {
  await server?.stop();
  await database?.drop();
});

describe('replay', { timeout: 60_000 }, () => {
  test('killed in the middle and started again makes each change once', async () => {
    const file = await writeCsv(ROWS);
    const ledger = await killInTheMiddle(file);
    expect(await finishTool('replay', [file, '--ledger', ledger, ...at(shop)])).toMatchObject({ code: 0 });
    await expectWhole(ledger);

    // the negative control: other bytes give other keys, and what has no key is made again
    await finishTool('replay', [await writeCsv(ROWS, '\n\n'), ...at(shop)]);
    const events = await pullAll(shop, shop.key);
    expect(events.filter(({ name }) => name === 'customer.created')).toHaveLength(10);
  });

  test('goes on over a server that is killed and started again', async () => {
    const file = await writeCsv(ROWS);
    const ledger = await newLedger();
    const run = runTool('replay', [file, '--ledger', ledger, ...at(shop)]);
    await untilOrders(ledger, 5);
    await server.kill();
    server = await startFanfare(env);
    expect(await run.code).toBe(0);
    expect(run.said()).toContain('trying again');
    await expectWhole(ledger);
  });

  test('finishes what is in hand at Ctrl-C, and goes on by the same command', async () => {
    const file = await writeCsv(ROWS);
    const ledger = await newLedger();
    const run = runTool('replay', [file, '--ledger', ledger, '--concurrency', '2', ...at(shop)]);
    await untilOrders(ledger, 5);
    run.kill('SIGINT');
    run.kill('SIGINT'); // npm passes on what the terminal sends too
    expect(await run.code).toBe(1);
    expect(run.said()).toMatch(/replay: stopped; \d+ of 30 orders are done; the same command goes on from there\n$/);
    const lines = await readLedger(ledger);
    const shipped = lines.filter(({ field }) => field === 'orderShip');
    expect(lines.filter(({ field }) => field === 'orderPlace')).toHaveLength(shipped.length);
    expect(shipped.length).toBeLessThan(INVOICES);
    expect(await finishTool('replay', [file, '--ledger', ledger, ...at(shop)])).toMatchObject({ code: 0 });
    await expectWhole(ledger);
  });
});

async function killInTheMiddle(file: string): Promise<string> {
  const ledger = await newLedger();
  const run = runTool('replay', [file, '--ledger', ledger, ...at(shop)]);
  await untilOrders(ledger, 5);
  run.kill('SIGKILL');
  expect(await run.code).toBeNull();
  expect((await readLedger(ledger)).filter(({ field }) => field === 'orderShip').length).toBeLessThan(INVOICES);
  return ledger;
}

function untilOrders(ledger: string, count: number): Promise<unknown> {
  const check = async () => (await readLedger(ledger)).filter(({ field }) => field === 'orderPlace').length >= count;
  return eventually(check, { everyMs: 2, describe: `${count} orders` });
}

/** Each key of the ledger has one id, and the log has each change once. */
async function expectWhole(ledger: string): Promise<void> {
  const lines = await readLedger(ledger);
  const idOf = new Map(lines.map(({ key, id }) => [key, id]));
  expect(lines.filter(({ key, id }) => idOf.get(key) !== id)).toEqual([]);
  expect(idOf.size).toBe(10 + 5 + 3 * INVOICES);
  const events = await eventually(async () => {
    const pulled = await pullAll(shop, shop.key);
    expect(pulled.filter(({ name }) => name === 'order.shipped')).toHaveLength(INVOICES);
    return pulled;
  });
  const made = events
    .filter(({ name }) => name !== 'stock.changed')
    .map(({ name, subjectId }) => `${name} ${subjectId}`);
  expect(new Set(made).size).toBe(made.length);
  expect(made).toHaveLength(idOf.size);
  expect(await sumOrders()).toBe(totalPence(ROWS));
}

async function sumOrders(): Promise<number> {
  const { orders } = await ask(shop, '{ orders(first: 100) { nodes { total { amount } } } }');
  const totals: readonly { readonly total: { readonly amount: string } }[] = orders.nodes;
  return totals.reduce((sum, { total }) => sum + Math.round(Number(total.amount) * 100), 0);
}

function at({ url, key }: Client): readonly string[] {
  return ['--url', url, '--key', key];
}
