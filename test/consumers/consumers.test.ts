import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConsumerEngine, openConsumerEngine, positions, positionsIn } from './consumer-engine.ts';

describe.each(['postgres', 'pglite'] as const)('a consumer on %s', (kind) => {
  let engine: ConsumerEngine;
  beforeAll(async () => {
    engine = await openConsumerEngine(kind);
    await engine.writeNotes(texts(20));
  });
  afterAll(() => engine.close());

  it('gives events in order, once, and moves on by acks', async () => {
    const startAfter = engine.cursorOf(0);
    expect(await engine.create({ name: 'all', startAfter })).toMatchObject({ position: '0', behind: 20, leases: [] });
    const first = await engine.poll({ name: 'all', first: 5 });
    const second = await engine.poll({ name: 'all', first: 5 });
    expect([positionsIn(first), positionsIn(second)]).toEqual([positions(1, 5), positions(6, 10)]);
    expect([first, second]).toMatchObject([
      { behind: 15, attempts: 1, cursor: engine.cursorOf(5) },
      { behind: 10, attempts: 1, cursor: engine.cursorOf(10) },
    ]);
    // the later one first: the position waits for the earlier
    expect(await engine.ack('all', second.cursor ?? '')).toMatchObject({
      position: '0',
      leases: [{ after: '0', to: '5', attempts: 1, until: first.leasedUntil }],
    });
    expect(await engine.ack('all', first.events[2]?.cursor ?? '')).toMatchObject({
      position: '3',
      behind: 17,
      leases: [{ after: '3', to: '5' }],
    });
    expect(await engine.ack('all', first.cursor ?? '')).toMatchObject({ position: '10', behind: 10, leases: [] });
    expect(positionsIn(await engine.poll({ name: 'all' }))).toEqual(positions(11, 20));
    expect(await engine.poll({ name: 'all' })).toEqual({
      events: [],
      cursor: null,
      leasedUntil: null,
      attempts: 0,
      behind: 0,
    });
  });

  it('gives again what ran out, the oldest first, split as it is asked for', async () => {
    await engine.create({ name: 'again', startAfter: engine.cursorOf(0) });
    for (const first of [4, 4]) await engine.poll({ name: 'again', first });
    await engine.expire('again', 1);
    expect(positionsIn(await engine.poll({ name: 'again', first: 3 }))).toEqual(positions(1, 3));
    expect(await engine.poll({ name: 'again', first: 3 })).toMatchObject({ events: [{ position: '4' }], attempts: 2 });
    expect(positionsIn(await engine.poll({ name: 'again', first: 3 }))).toEqual(positions(9, 11));
    expect(await engine.consumer('again')).toMatchObject({
      leases: [
        { after: '0', to: '3', attempts: 2 },
        { after: '3', to: '4', attempts: 2 },
        { after: '4', to: '8', attempts: 1 },
        { after: '8', to: '11', attempts: 1 },
      ],
    });
  });
});

function texts(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `note ${at}`);
}
