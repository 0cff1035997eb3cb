import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { type Callback, compare, type Evidence, type SeenEvent } from '../support/kill/compare.ts';
import { readInvoiceFile, writeInvoices } from '../support/kill/invoice-file.ts';
import { drawSchedule } from '../support/kill/schedule.ts';

/** A product and two orders of it, one paid: as a run without faults would leave them. */
function soundEvidence(): Evidence {
  const event = (
    position: number,
    name: string,
    subjectId: string,
    subjectVersion: number,
    more: object = {},
  ): SeenEvent => ({
    id: `evt_${position}`,
    position: String(position),
    cursor: `cursor_${position}`,
    name,
    occurredAt: `2026-01-01T00:00:0${position}.000Z`,
    subjectId,
    subjectVersion,
    ...more,
  });
  const log = [
    event(1, 'product.created', 'prod_a', 1, { product: { sku: 'A' } }),
    event(2, 'order.placed', 'order_a', 1, { order: { total: { amount: '12.50' } } }),
    event(3, 'stock.changed', 'prod_a', 2),
    event(4, 'order.placed', 'order_b', 1, { order: { total: { amount: '0.75' } } }),
    event(5, 'order.paid', 'order_a', 2, { order: { total: { amount: '12.50' } } }),
  ];
  return {
    ledger: [
      { key: 'product:A', field: 'productCreate', id: 'prod_a' },
      { key: 'order:1:place', field: 'orderPlace', id: 'order_a' },
      { key: 'order:2:place', field: 'orderPlace', id: 'order_b' },
      { key: 'order:1:pay', field: 'orderPay', id: 'order_a' },
    ],
    log,
    streams: { WebSocket: structuredClone(log), SSE: structuredClone(log) },
    // the second overtook the first, and came again
    callbacks: [1, 0, 2, 1, 3, 4].map((at) => toCallback(log[at])),
    orders: [
      { id: 'order_a', total: { amount: '12.50' } },
      { id: 'order_b', total: { amount: '0.75' } },
    ],
    total: '13.25',
  };
}

function toCallback(event: SeenEvent | undefined): Callback {
  const { id = '', name: type, occurredAt: timestamp, cursor } = event ?? {};
  return {
    webhookId: `dlv_${id}`,
    eventId: id,
    cursor,
    body: JSON.stringify({ type, timestamp, data: event }),
    fault: undefined,
  };
}

const sound = soundEvidence();
const withLog = (change: (log: SeenEvent[]) => readonly SeenEvent[]): Partial<Evidence> => ({
  log: change([...sound.log]),
});
const withSse = (change: (log: SeenEvent[]) => readonly SeenEvent[]): Partial<Evidence> => ({
  streams: { ...sound.streams, SSE: change([...sound.log]) },
});
const withCallback = (at: number, change: Partial<Callback>): Partial<Evidence> => ({
  callbacks: sound.callbacks.map((each, index) => (index === at ? { ...each, ...change } : each)),
});
const at = (index: number) => sound.log[index] as SeenEvent; // the five above
const bodyAt = (index: number) => sound.callbacks[index]?.body ?? '';
const secondOrder: SeenEvent = { ...at(3), id: 'evt_6', position: '6', cursor: 'cursor_6', subjectId: 'order_c' };
const PAID_AGAIN = { name: 'order.paid', subjectId: 'order_a', subjectVersion: 3 };
const SECOND_ANSWER = { key: 'product:A', field: 'orderPlace', id: 'order_b' };

/** What is wrong, how it changes the evidence, and what must be found, among what follows from it. */
const FAULTS: readonly (readonly [string, Partial<Evidence>, string])[] = [
  ['an acknowledged change without event', withLog((log) => log.slice(0, 4)), 'lost log'],
  ['a change with two events', withLog((log) => [...log, { ...secondOrder, ...PAID_AGAIN }]), 'doubled log'],
  ['an order placed twice by one call', withLog((log) => [...log, secondOrder]), 'doubled log, total order.placed'],
  ['two answers to one call', { ledger: [...sound.ledger, SECOND_ANSWER] }, 'doubled log'],
  ['a gap in the positions', withLog((log) => log.with(4, { ...at(4), position: '6' })), 'gap log'],
  ['a version left out', withLog((log) => log.with(2, { ...at(2), subjectVersion: 3 })), 'version log'],
  ['an event that a stream lost', withSse((log) => log.toSpliced(2, 1)), 'lost SSE'],
  ['an event that a stream repeats', withSse((log) => log.toSpliced(2, 0, at(1))), 'doubled SSE'],
  ['two events swapped on a stream', withSse((log) => log.with(1, at(2)).with(2, at(1))), 'order SSE'],
  ['other JSON on a stream', withSse((log) => log.with(3, { ...at(3), actor: null } as SeenEvent)), 'json SSE'],
  ['an event on a stream that the log lacks', withSse((log) => [...log, secondOrder]), 'stray SSE'],
  ['a callback that never came', { callbacks: sound.callbacks.slice(0, -1) }, 'lost webhook'],
  ['a callback under a second id', withCallback(3, { webhookId: 'dlv_other' }), 'doubled webhook'],
  ['a callback with a wrong signature', withCallback(4, { fault: 'no matching signature' }), 'signature webhook'],
  ['a callback repeated with other bytes', withCallback(3, { body: `${bodyAt(3)} ` }), 'json webhook'],
  ['a callback with other JSON', withCallback(5, { body: bodyAt(5).replace('12.50', '12.51') }), 'json webhook'],
  ['a callback with the cursor of another', withCallback(2, { cursor: 'cursor_1' }), 'json webhook'],
  ['a missing row of the file', { total: '13.26' }, 'total order.placed, total orders'],
  ['an order that the query lacks', { orders: sound.orders.slice(1) }, 'total orders'],
];

describe('the comparison of a kill run', () => {
  it('finds nothing in a sound one, in which a callback was overtaken and repeated', () => {
    expect(compare(sound)).toEqual([]);
  });

  it.each(FAULTS)('finds %s', (_fault, change, expected) => {
    const found = compare({ ...sound, ...change }).map(({ kind, where }) => `${kind} ${where}`);
    expect(found).toEqual(expect.arrayContaining(expected.split(', ')));
  });
});

describe('what a kill run is made of', () => {
  it('is drawn from the seed: the same kills, each process as often as asked, by progress', () => {
    const plan = { kills: { api: 20, relay: 7, redis: 3 }, changes: 1_000 };
    const schedule = drawSchedule({ ...plan, seed: 5 });
    expect(drawSchedule({ ...plan, seed: 5 })).toEqual(schedule);
    expect(drawSchedule({ ...plan, seed: 6 })).not.toEqual(schedule);
    const victims = Object.groupBy(schedule, ({ victim }) => victim);
    expect(Object.entries(victims).map(([name, kills]) => [name, kills?.length])).toEqual(
      expect.arrayContaining(Object.entries(plan.kills)),
    );
    const marks = schedule.map(({ mark }) => mark);
    expect(marks).toEqual(marks.toSorted((a, b) => a - b));
    expect(marks.at(-1)).toBeLessThan(1_000);
  });

  it('is a file as large as asked, the same for the same seed, that adds up', async () => {
    const dir = await mkdtemp(join(inject('run').scratchDir, 'invoices-'));
    const plan = { invoices: 12, rows: 60, products: 30, customers: 5, seed: 3 };
    await writeInvoices(join(dir, 'a.csv'), plan);
    await writeInvoices(join(dir, 'b.csv'), plan);
    const [a, b, part] = await Promise.all([
      readInvoiceFile(join(dir, 'a.csv')),
      readInvoiceFile(join(dir, 'b.csv')),
      readInvoiceFile(join(dir, 'a.csv'), { first: 4 }),
    ]);
    expect(a).toMatchObject({ invoices: 12, rows: 60, total: b.total });
    expect(part).toMatchObject({ invoices: 4, rows: 20 });
  });
});
