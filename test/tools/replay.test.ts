import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { domain } from '#domain';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { pullAll } from '../support/kill-embedded.ts';
import {
  ask,
  type Client,
  finishTool,
  manyInvoices,
  newClient,
  newLedger,
  readLedger,
  SCOPES,
  writeCsv,
} from './tool.ts';

let app: TestApp;

beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain });
});
afterAll(() => app?.stop());

function replay({ url, key }: Client, ...args: readonly string[]) {
  return finishTool('replay', [...args, '--url', url, '--key', key]);
}

/** How many events of each name the account has. */
async function countEvents(client: Client): Promise<Record<string, number>> {
  const events = await pullAll(client, client.key);
  const byName = Map.groupBy(events, ({ name }) => name);
  return Object.fromEntries([...byName].map(([name, { length }]) => [name, length]));
}

/** The report without its times, which no two runs share. */
function withoutTime(report: string): string {
  return report.replace(/^time .*$/m, '');
}

const GOOD = [
  '1001,TEA,  TEA CADDY ,2,12/1/2010 9:05,4.50,17850,United Kingdom',
  '1001,TEA,CADDY FOR TEA,1,12/1/2010 9:05,4.25,17850,United Kingdom',
  '1001,MUG,"MUG, ""BLUE""",3,12/1/2010 9:06,0.85,17850,United Kingdom',
  '1000,TEA,first of all,5,12/1/2010 8:00,5.00,,France',
];
const BAD: readonly (readonly [row: string, reason: string])[] = [
  [
    'C1002,TEA,TEA CADDY,-1,12/1/2010 9:41,4.50,17850,UK',
    'InvoiceNo: expected an invoice, found the cancellation "C1002"',
  ],
  ['10 03,TEA,TEA CADDY,1,12/1/2010 9:41,4.50,,UK', 'InvoiceNo: expected 1 to 64 letters'],
  ['1003,BANK CHARGES,FEES,1,12/1/2010 9:41,15.00,,UK', 'StockCode: expected 1 to 64 visible ASCII'],
  ['1003,TEA,,1,12/1/2010 9:41,4.50,,UK', 'Description: expected 1 to 200 visible characters, found nothing'],
  ['1003,TEA,TEA CADDY,0,12/1/2010 9:41,4.50,,UK', 'Quantity: expected a whole number from 1 to 1,000,000, found "0"'],
  ['1003,TEA,TEA CADDY,1.5,12/1/2010 9:41,4.50,,UK', 'Quantity: expected a whole number'],
  [
    '1003,TEA,TEA CADDY,1,31/12/2010 9:41,4.50,,UK',
    'InvoiceDate: expected a date such as 12/31/2010 9:05, month first',
  ],
  ['1003,TEA,TEA CADDY,1,12/1/2010 9:41,0,,UK', 'UnitPrice: expected more than 0'],
  ['1003,TEA,TEA CADDY,1,12/1/2010 9:41,-4.50,,UK', 'UnitPrice: expected more than 0'],
  ['1003,TEA,TEA CADDY,1,12/1/2010 9:41,0.001,,UK', 'UnitPrice: expected more than 0, with at most 2 digits'],
  ['1001,TEA,TEA CADDY,1,12/1/2010 9:41,4.50,99,UK', 'CustomerID: expected 17850 as in line 2, found 99'],
  ['1003,TEA', 'row: expected at least 8 columns, found 2'],
];

describe('replay', () => {
  test('takes the good rows, and says of each bad one what is wrong in which line', async () => {
    const user = await newClient(app);
    const { code, out } = await replay(user, await writeCsv([...GOOD, ...BAD.map(([row]) => row)]));
    const reasons = out.split('\n').filter((line) => line.includes('line '));
    expect(reasons).toHaveLength(BAD.length);
    for (const [at, [, reason]] of BAD.entries())
      expect(reasons[at]).toContain(`line ${at + 2 + GOOD.length}, ${reason}`);
    expect(out).toContain(`rows       ${GOOD.length + BAD.length} read, ${BAD.length} refused`);
    expect(out).toContain('orders     2 placed, 2 paid, 2 shipped');
    expect(out).toContain('total      GBP 40.80 by the server, GBP 40.80 by the file: equal');
    expect(code).toBe(1);

    const data = await ask(
      user,
      '{ products { nodes { sku title stock price { amount } } } orders { nodes { state total { amount } customer { name country } lines { sku quantity unitPrice { amount currency } } } } }',
    );
    const bySku = (a: { sku: string }, b: { sku: string }) => a.sku.localeCompare(b.sku); // they are made at the same time
    expect(data.products.nodes.toSorted(bySku)).toEqual([
      { sku: 'MUG', title: 'MUG, "BLUE"', stock: 0, price: { amount: '0.85' } },
      { sku: 'TEA', title: 'first of all', stock: 0, price: { amount: '5.00' } },
    ]);
    const gbp = (amount: string) => ({ amount, currency: 'GBP' });
    expect(data.orders.nodes.find((order: { customer: unknown }) => order.customer !== null)).toEqual({
      state: 'SHIPPED',
      total: { amount: '15.80' },
      customer: { name: 'Customer 17850', country: 'United Kingdom' },
      lines: [
        { sku: 'TEA', quantity: 2, unitPrice: gbp('4.50') },
        { sku: 'TEA', quantity: 1, unitPrice: gbp('4.25') },
        { sku: 'MUG', quantity: 3, unitPrice: gbp('0.85') },
      ],
    });
  });

  test('run twice makes nothing twice, and reports the same', async () => {
    const user = await newClient(app);
    const file = await writeCsv(manyInvoices(12));
    const ledger = await newLedger();
    const first = await replay(user, file, '--ledger', ledger);
    // the last event gets its position a moment after the change
    await eventually(async () => (await countEvents(user))['order.shipped'] === 12);
    const before = await ask(user, '{ head }');
    const second = await replay(user, file, '--ledger', ledger, '--concurrency', '3');
    expect([first.code, second.code]).toEqual([0, 0]);
    expect(withoutTime(second.out)).toBe(withoutTime(first.out));
    expect(await ask(user, '{ head }')).toEqual(before);
    expect(await countEvents(user)).toMatchObject({ 'order.placed': 12, 'order.paid': 12, 'order.shipped': 12 });

    const lines = await readLedger(ledger);
    const byKey = (a: { key: string }, b: { key: string }) => (a.key < b.key ? -1 : 1);
    const [acknowledged, again] = [lines.slice(0, lines.length / 2), lines.slice(lines.length / 2)];
    expect(again.toSorted(byKey)).toEqual(acknowledged.toSorted(byKey));
    expect(lines).toContainEqual({
      key: expect.stringMatching(/^replay:[0-9a-f]{12}:order:5003:place$/),
      field: 'orderPlace',
      id: expect.stringMatching(/^order_/),
      cursor: expect.any(String),
    });
  });

  test('places only the first invoices in order of time, then all, with the same products', async () => {
    const user = await newClient(app);
    const file = await writeCsv([
      '2002,LATE,LATE,1,12/2/2010 9:00,1.00,7,UK',
      '2001,BOTH,BOTH,2,12/1/2010 9:00,3.00,8,UK',
      '2002,BOTH,BOTH,5,12/2/2010 9:00,9.00,7,UK',
    ]);
    const some = await replay(user, file, '--invoices=1');
    expect(some.out).toContain('total      GBP 6.00 by the server, GBP 6.00 by the file: equal');
    const data = await ask(user, '{ products { nodes { sku stock } } customers { nodes { name } } }');
    expect(data).toEqual({
      products: { nodes: [{ sku: 'BOTH', stock: 5 }] },
      customers: { nodes: [{ name: 'Customer 8' }] },
    });
    const all = await replay(user, file);
    expect(all.out).toContain('total      GBP 52.00 by the server, GBP 52.00 by the file: equal');
    expect(await countEvents(user)).toMatchObject({ 'product.created': 2, 'customer.created': 2, 'order.placed': 2 });
  });

  test('refuses an invoice of more than 1,000 lines, and places the others', async () => {
    const user = await newClient(app);
    const long = Array.from({ length: 1_001 }, () => '3001,A,A,1,12/1/2010 9:00,1.00,,UK');
    const { code, out } = await replay(user, await writeCsv([...long, '3002,A,A,1,12/1/2010 9:00,1.00,,UK']));
    expect(out).toContain('rows       1,002 read, 1,001 refused');
    expect(out).toContain('line 2, InvoiceNo: expected at most 1,000 lines in invoice 3001, found 1001');
    expect(out).toContain('orders     1 placed');
    expect(code).toBe(1);
  });

  test('of another file takes the products that are there, and reports what the server refuses', async () => {
    const user = await newClient(app);
    await replay(user, await writeCsv(['4001,A,A,2,12/1/2010 9:00,1.00,,UK']));
    const { code, out } = await replay(user, await writeCsv(['4001,A,A,3,12/1/2010 9:00,1.00,,UK']));
    expect(out).toContain('products   1 (1 of them were there before');
    expect(out).toContain('invoice 4001: orderPlace answered OUT_OF_STOCK');
    expect(out).toContain('not all orders are placed');
    expect(code).toBe(1);
  });

  test('stops at once, with one message, where the key lacks a scope or is none', async () => {
    const file = await writeCsv(manyInvoices(3));
    const narrow = await replay(
      await newClient(
        app,
        SCOPES.filter((scope) => scope !== 'orders:price'),
      ),
      file,
    );
    expect(narrow.said).toMatch(/^replay: the key lacks a scope: .*orders:price.*\n$/);
    const none = await finishTool('replay', [file, '--url', app.url, '--key', 'ff_none']);
    expect(none.said).toMatch(/^replay: the key is refused: .*\n$/);
    expect([narrow.code, narrow.out, none.code, none.out]).toEqual([1, '', 1, '']);
  });
});
