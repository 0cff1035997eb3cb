import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BASE_MS, CAP_MS, createBackoff } from '../../src/client/backoff.ts';
import { createEventStreamReader } from '../../src/client/event-stream.ts';
import { createHandover } from '../../src/client/handover.ts';
import { readShape } from '../../src/client/operation.ts';

describe('waits', () => {
  const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  test('lie below a bound that doubles up to its cap, and anywhere below it', () => {
    const waits = fc.array(chance, { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(waits, (chances) => {
        const left = [...chances];
        const backoff = createBackoff({ random: () => left.shift() ?? 0 });
        for (const [at, each] of chances.entries()) {
          const boundMs = Math.min(CAP_MS, BASE_MS * 2 ** at);
          expect(backoff.next()).toBe(Math.floor(each * boundMs));
        }
      }),
    );
  });

  test('never exceed the cap, however long it lasts', () => {
    const backoff = createBackoff({ random: () => 1 - Number.EPSILON });
    const waits = Array.from({ length: 5_000 }, () => backoff.next());
    expect(Math.max(...waits)).toBeLessThanOrEqual(CAP_MS);
    expect(waits[0]).toBeLessThan(BASE_MS);
  });

  test('begin again at the shortest once something has worked', () => {
    fc.assert(
      fc.property(fc.nat(50), chance, (failures, each) => {
        const backoff = createBackoff({ random: () => each });
        for (let n = 0; n < failures; n++) backoff.next();
        backoff.reset();
        expect(backoff.next()).toBeLessThan(BASE_MS);
      }),
    );
  });
});

describe('an event stream', () => {
  const STREAM = [
    ': a comment\n\n',
    'event: next\nid: c1\ndata: {"a":\ndata: 1}\n\n',
    'event:next\r\ndata:é€😀\r\n\r\n',
    'data\r\rretry: 10\n\n',
    'event: complete\ndata:\n\n',
    'event: next\ndata: not ended',
  ].join('');
  const EVENTS = [
    { event: 'next', data: '{"a":\n1}' },
    { event: 'next', data: 'é€😀' },
    { event: 'message', data: '' },
    { event: 'complete', data: '' },
  ];

  test('is read the same in pieces of any size', () => {
    const bytes = new TextEncoder().encode(STREAM);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const read = createEventStreamReader();
        const decoder = new TextDecoder();
        const ends = [...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = ends.map((end, at) => bytes.subarray(ends[at - 1] ?? 0, end));
        expect(pieces.flatMap((piece) => read(decoder.decode(piece, { stream: true })))).toEqual(EVENTS);
      }),
    );
  });

  test('is refused where one event never ends', () => {
    const read = createEventStreamReader();
    const megabyte = `data: ${'x'.repeat(1024 * 1024)}\n`;
    expect(() => Array.from({ length: 20 }, () => read(megabyte))).toThrow(/longer than/);
  });
});

describe('a request', () => {
  const position = { root: 'events', name: 'position' };
  test.each([
    ['all events', '{ events { position } }', { position, isUnfiltered: true }],
    ['without position', '{ events { id } }', { isUnfiltered: true }],
    ['renamed', '{ all: events { at: position } }', { position: { root: 'all', name: 'at' }, isUnfiltered: true }],
    [
      'in a fragment',
      '{ events { ...F } } fragment F on Event { ... on Event { position } }',
      { position, isUnfiltered: true },
    ],
    ['of a cycle', '{ events { ...F } } fragment F on Event { ...F position }', { position, isUnfiltered: true }],
    ['perhaps', '($p: Boolean!) { events { position @include(if: $p) } }', { isUnfiltered: true }],
    ['of two meanings', '{ events { ... on A { position } ... on B { position: name } } }', { isUnfiltered: true }],
    ['filtered', '{ events(filter: { types: [X] }) { position } }', { position, isUnfiltered: false }],
    ['filtered by nothing', '{ events(filter: null) { position } }', { position, isUnfiltered: true }],
    ['perhaps filtered', '($f: EventFilter) { events(filter: $f) { position } }', { position, isUnfiltered: true }],
    [
      'filtered by default',
      '($f: EventFilter = {}) { events(filter: $f) { position } }',
      { position, isUnfiltered: false },
    ],
    [
      'of one type',
      '{ orderPlaced { position } }',
      { position: { ...position, root: 'orderPlaced' }, isUnfiltered: false },
    ],
  ])('for %s is known by its shape', (_name, selection, shape) => {
    expect(readShape({ query: `subscription ${selection}` })).toEqual({ kind: 'subscription', ...shape });
  });

  test('is filtered by a variable that is given', () => {
    const query = 'subscription ($f: EventFilter) { events(filter: $f) { position } }';
    expect(readShape({ query, variables: { f: { types: ['X'] } } })).toEqual({
      kind: 'subscription',
      position,
      isUnfiltered: false,
    });
  });

  test.each([
    ['{ head }', undefined, 'query'],
    ['query A { head } mutation B { write }', 'B', 'mutation'],
    ['no GraphQL', undefined, 'query'],
  ])('of another kind (%s) goes once', (query, operationName, kind) => {
    expect(readShape({ query, operationName })).toEqual({ kind, isUnfiltered: false });
  });
});

describe('a handover', () => {
  test('keeps the order, one at a time, whether the taker is quick or slow', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 50 }), async (isSlow) => {
        const taken: number[] = [];
        let busy = 0;
        const handover = createHandover<number>({
          take(item) {
            expect(busy).toBe(0);
            if (!isSlow[item]) return void taken.push(item);
            busy += 1;
            return Promise.resolve().then(() => {
              taken.push(item);
              busy -= 1;
            });
          },
          onFailure: (error) => {
            throw error;
          },
          max: 100,
        });
        for (const at of isSlow.keys()) {
          handover.offer(at);
          if (at % 3 === 0) await Promise.resolve();
        }
        await handover.drained();
        expect(taken).toEqual([...isSlow.keys()]);
      }),
    );
  });

  test('says when as many wait as may, keeps them, and drops them when it is closed', async () => {
    const gate = Promise.withResolvers<void>();
    const taken: number[] = [];
    const handover = createHandover<number>({
      take(item) {
        taken.push(item);
        return gate.promise;
      },
      onFailure: () => {},
      max: 2,
    });
    expect([1, 2, 3, 4].map((each) => handover.offer(each))).toEqual([true, true, false, false]);
    handover.close();
    gate.resolve();
    await handover.drained();
    expect(taken).toEqual([1]);
  });
});
