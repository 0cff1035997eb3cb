import fc from 'fast-check';
import {
  executeSubscriptionEvent,
  parse,
  type ValidatedSubscriptionArgs,
  validate,
  validateSubscriptionArgs,
} from 'graphql';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { createContext, type EngineContext } from '../../src/graphql/context.ts';
import { planEvents } from '../../src/graphql/event-plan.ts';
import type { EventRecord } from '../../src/outbox/read.ts';
import { openTestEngine, type TestEngine } from '../support/engine.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await openTestEngine({ kind: 'postgres', domain });
});
afterAll(() => engine.close());

const money = fc.record({ amount: fc.constantFrom('1.50', '-3', '0.000001'), currency: fc.constantFrom('EUR', 'USD') });
const line = fc.record({
  number: fc.integer({ min: 1, max: 9 }),
  productId: fc.string(),
  sku: fc.string({ unit: 'binary' }),
  quantity: fc.nat(99),
  unitPrice: money,
});
const order = fc.record({
  orderId: fc.string(),
  version: fc.nat(9),
  state: fc.constantFrom('PLACED', 'PAID'),
  customerId: fc.option(fc.string()),
  total: money,
  placedAt: fc.constant('2026-01-31T12:00:00.000Z'),
  lines: fc.array(line, { maxLength: 3 }),
});
const product = fc.record({
  productId: fc.string(),
  version: fc.nat(9),
  sku: fc.string(),
  title: fc.string(),
  price: money,
  stock: fc.integer(),
});
/** What a payload can hold only by a fault: graphql-js says what is wrong with it. */
const broken = fc.constantFrom(
  {},
  { order: null },
  { order: { lines: 'none', state: 'LOST', total: { amount: 'x' } } },
);

const payload = fc.oneof(
  fc.record({ name: fc.constantFrom('order.placed', 'order.cancelled'), payload: fc.record({ order }) }),
  fc.record({ name: fc.constantFrom('product.created'), payload: fc.record({ product }) }),
  fc.record({ name: fc.constantFrom('order.placed'), payload: broken }),
);
const record: fc.Arbitrary<EventRecord> = fc
  .tuple(
    payload,
    fc.record({ position: fc.integer({ min: 1 }), actor: fc.option(fc.string()), changed: fc.array(fc.string()) }),
  )
  .map(([of, more]) => ({
    seq: 1,
    id: `evt_${'0'.repeat(32)}`,
    accountId: 'acc_default',
    payloadVersion: 1,
    occurredAt: new Date(1_769_860_800_000),
    subjectType: 'Order',
    subjectId: 'order_1',
    subjectVersion: 1,
    related: [],
    requestId: null,
    causedBy: null,
    ...of,
    ...more,
  }));

const EVENT = [
  '__typename',
  'id',
  'position',
  'cursor',
  'type',
  'name',
  'payloadVersion',
  'occurredAt',
  'subjectVersion',
  'changed',
  'actor',
  'x: actor',
];
const LINE = ['number', 'sku @include(if: $yes)', 'q: quantity', '__typename', 'unitPrice { amount ...m }'];
const ORDER = [
  'orderId',
  'state',
  'customerId',
  'total { ...m }',
  'lines { number }',
  'placedAt',
  'total { currency }',
];
const PRODUCT = ['productId', 'stock', 'price { a: amount @skip(if: $no) ...m }', 'title'];
const some = (fields: readonly string[]) =>
  fc.shuffledSubarray([...fields], { minLength: 1 }).map((each) => each.join(' '));

const document = fc.tuple(some(EVENT), some(ORDER), some(LINE), some(PRODUCT)).map(
  ([event, ofOrder, ofLine, ofProduct]) => `subscription ($yes: Boolean!, $no: Boolean = false) {
      e: events {
        ${event} ... on OrderPlaced { order { ${ofOrder} lines { ${ofLine} } } }
        ... on OrderCancelled @include(if: $yes) { order { ${ofOrder} a: total { ...m } } } ...p ... on Node { i: id }
      }
    }
    fragment p on ProductCreated { product { ${ofProduct} p: price { ...m } } ...e }
    fragment e on Event { subjectId @skip(if: $no) }
    fragment m on Money { currency @include(if: $yes) @skip(if: $no) amount }`,
);

describe('a planned selection', () => {
  it('gives what graphql-js gives, or leaves it to it', () => {
    const outcomes = { planned: 0, left: 0 };
    fc.assert(
      fc.property(
        document,
        fc.boolean(),
        fc.boolean(),
        fc.array(record, { minLength: 1, maxLength: 4 }),
        (text, yes, no, events) => {
          const validated = prepare(text, { yes, no });
          const plan = planEvents(validated);
          for (const event of events) {
            const planned = plan(event, contextOf(event));
            const expected = executeSubscriptionEvent({
              ...validated,
              rootValue: event,
              contextValue: contextOf(event),
            });
            outcomes[planned === undefined ? 'left' : 'planned']++;
            // text, so that the order of the fields counts, too
            if (planned !== undefined) expect(JSON.stringify(planned)).toBe(JSON.stringify(expected));
            else expect(expected).toHaveProperty('errors');
          }
        },
      ),
      { numRuns: 500 },
    );
    expect(outcomes.planned).toBeGreaterThan(500);
    expect(outcomes.left).toBeGreaterThan(50);
  });

  it.each([
    ['the way to the entity', 'events { ... on OrderPlaced { currentOrder { id } } }', undefined],
    [
      'that way in another type of event',
      'events { id ... on OrderPaid { currentOrder { id } } }',
      { events: { id: `evt_${'0'.repeat(32)}` } },
    ],
    ['a field of one type', 'orderPlaced { order { orderId } }', { orderPlaced: { order: { orderId: 'order_1' } } }],
  ])('of %s', (_what, fields, data) => {
    const plan = planEvents(prepare(`subscription { ${fields} }`));
    const [event] = fc
      .sample(record, 1)
      .map((each) => ({ ...each, name: 'order.placed', payload: { order: { orderId: 'order_1' } } }));
    expect(plan(event, contextOf(event as EventRecord))).toEqual(data && { data });
  });
});

function prepare(text: string, variableValues: Record<string, unknown> = {}): ValidatedSubscriptionArgs {
  const document = parse(text);
  const faults = validate(engine.schema, document);
  if (faults[0]) throw faults[0];
  const validated = validateSubscriptionArgs({ schema: engine.schema, document, variableValues });
  if ('schema' in validated) return validated;
  throw validated[0];
}

function contextOf({ accountId, id }: EventRecord): EngineContext {
  const principal = {
    id: 'key_test',
    accountId,
    scopes: new Set(engine.services.registry.scopes),
    narrowing: [],
    expiresAt: undefined,
  };
  return createContext(engine.services, { principal, requestId: id });
}
