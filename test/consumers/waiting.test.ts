import { getEventListeners } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import type { RunOptions } from '../support/engine.ts';
import { eventually } from '../support/eventually.ts';
import {
  type BatchView,
  type ConsumerEngine,
  DELETE,
  openConsumerEngine,
  POLL,
  positionsIn,
  soon,
} from './consumer-engine.ts';

/** Far longer than any of these tests. */
const waitMs = 30_000;

describe.each(['postgres', 'pglite'] as const)('a poll that waits, on %s', (kind) => {
  let engine: ConsumerEngine;
  let made = 0;
  const open = async () => {
    const name = `waits-${++made}`;
    await engine.create({ name });
    return name;
  };
  const wait = (name: string, options?: RunOptions) => engine.poll({ name, waitMs }, options);
  const untilWaiting = (count: number) => eventually(() => engine.waiting.count() === count);

  beforeAll(async () => {
    engine = await openConsumerEngine(kind);
    await engine.writeNotes(['first']);
  });
  afterEach(() => {
    engine.onWatch = async () => {};
    engine.refresh = async (principal) => principal;
    // nothing is left behind by any of them
    expect([engine.waiting.count(), engine.watched()]).toEqual([0, []]);
  });
  afterAll(() => engine.close());

  it('gets an event as soon as it has a position', async () => {
    const name = await open();
    const poll = wait(name);
    await untilWaiting(1);
    await engine.writeNotes(['new']);
    expect(await soon(poll)).toMatchObject({ events: [{ name: 'note.written' }], behind: 0 });
  });

  it('gets what was stamped while it began to watch', async () => {
    const name = await open();
    engine.onWatch = () => engine.writeNotes(['between']);
    expect(positionsIn(await soon(wait(name)))).toHaveLength(1);
  });

  it('gets what another let run out, and asks for it when that is due, not again and again', async () => {
    const name = await open();
    await engine.writeNotes(['lent']);
    await engine.poll({ name, leaseSeconds: 1 });
    engine.countReads();
    expect(await soon(wait(name))).toMatchObject({ attempts: 2, events: [{}] });
    // the consumer, the look before and after it watches, the one that gets the lease, its events, what is left of the log
    expect(engine.countReads()).toBeLessThanOrEqual(7);
  });

  it('gives an empty batch at the end of its time', async () => {
    const name = await open();
    expect(await engine.poll({ name, waitMs: 1 })).toMatchObject({ events: [], cursor: null });
  });

  it('looks over events that it does not want, and waits on', async () => {
    const name = `picky-${kind}`;
    await engine.create({ name, filter: { types: ['NOTE_EDITED'] } });
    const poll = wait(name);
    await untilWaiting(1);
    await engine.writeMixed([true, true]);
    // what was looked over counts as done: it does not hold the consumer back
    await eventually(async () => expect(await engine.consumer(name)).toMatchObject({ behind: 0, leases: [] }));
    await engine.writeMixed([true, false]);
    expect(await soon(poll)).toMatchObject({ events: [{ name: 'note.edited' }] });
  });

  it('asks once for a crowd, of which one gets the event', async () => {
    const name = await open();
    const polls = Array.from({ length: 30 }, () => engine.poll({ name, waitMs, first: 2 }));
    await untilWaiting(30);
    // all have looked, and rest
    await eventually(() => engine.countReads() === 0, { everyMs: 50 });
    const done: BatchView[] = [];
    for (const poll of polls) void poll.then((batch) => done.push(batch));
    await engine.writeNotes(['one']);
    await eventually(() => done.length === 1);
    await eventually(() => engine.countReads() === 0, { everyMs: 50 });
    await engine.writeNotes(['two']);
    engine.countReads();
    await eventually(() => done.length === 2);
    await untilWaiting(28);
    // one lease, its events, the rest of the log, and one look of the next in line
    expect(engine.countReads()).toBeLessThanOrEqual(4);
    await engine.writeNotes(Array.from({ length: 28 * 2 }, (_, at) => `${at}`));
    const batches = await soon(Promise.all(polls));
    const all = batches.flatMap(positionsIn);
    expect(new Set(all).size).toBe(all.length);
    expect(all).toHaveLength(2 + 28 * 2);
  });

  it('ends at once when the caller goes, and takes nothing', async () => {
    const name = await open();
    const gone = new AbortController();
    const poll = wait(name, { signal: gone.signal });
    await untilWaiting(1);
    gone.abort();
    expect(await soon(poll)).toMatchObject({ events: [] });
    expect(getEventListeners(gone.signal, 'abort')).toHaveLength(0);
    await engine.writeNotes(['for another']);
    expect(await engine.consumer(name)).toMatchObject({ leases: [] });
  });

  it('fails when its consumer is deleted', async () => {
    const name = await open();
    const poll = engine.fail(POLL, { variables: { name, waitMs } });
    await untilWaiting(1);
    await engine.run(DELETE, { variables: { name } });
    await engine.writeNotes(['too late']);
    expect(await soon(poll)).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('gives nothing to a key that has lost its scopes, or its life, meanwhile', async () => {
    const name = await open();
    const lost = engine.fail(POLL, { variables: { name, waitMs } });
    await untilWaiting(1);
    engine.refresh = async (principal) => ({ ...principal, scopes: new Set(['consumers:write', 'events:read']) });
    await engine.writeNotes(['secret']);
    expect(await soon(lost)).toMatchObject({ code: 'FORBIDDEN' });
    await engine.poll({ name });
    const revoked = engine.fail(POLL, { variables: { name, waitMs } });
    await untilWaiting(1);
    engine.refresh = async () => {
      throw new EngineError('UNAUTHENTICATED', 'revoked');
    };
    await engine.writeNotes(['secret']);
    expect(await soon(revoked)).toMatchObject({ code: 'UNAUTHENTICATED' });
    expect((await engine.consumer(name))?.leases).toHaveLength(1);
  });

  it('is one of at most 1,000 of an account', async () => {
    const { id } = await engine.create({ name: await open() });
    const waiters = await Promise.all(
      Array.from({ length: 1_000 }, () => engine.waiting.join({ account_id: 'acc_default', id })),
    );
    const refused = await engine.fail(POLL, { variables: { name: await open(), waitMs } });
    for (const waiter of waiters) waiter.leave();
    expect(refused).toMatchObject({ code: 'RATE_LIMITED' });
  });

  it('fails, and leaves nothing, where the watch fails', async () => {
    const name = await open();
    engine.onWatch = async () => {
      throw new EngineError('UNAVAILABLE', 'no watch');
    };
    const polls = [1, 2].map(() => engine.fail(POLL, { variables: { name, waitMs } }));
    expect(await soon(Promise.all(polls))).toMatchObject([{ code: 'UNAVAILABLE' }, { code: 'UNAVAILABLE' }]);
  });

  it('leaves no listener and no timer, however it ends', async () => {
    const name = await open();
    const listeners = () => getEventListeners(engine.draining.signal, 'abort').length;
    // with those of idle connections, which come and go
    const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
    const before = { listeners: listeners(), timers: timers() };
    for (let round = 0; round < 40; round++) {
      const gone = new AbortController();
      const polls = [
        wait(name, { signal: gone.signal }),
        engine.poll({ name, waitMs: 1 }),
        wait(name, { signal: gone.signal }),
      ];
      await eventually(() => engine.waiting.count() > 0);
      if (round % 4 === 0) await engine.writeNotes(['x']);
      gone.abort();
      await soon(Promise.all(polls));
    }
    expect(listeners()).toBe(before.listeners);
    await eventually(() => timers() <= before.timers);
  });
});

it('a poll that waits ends at once when the process is told to stop, and none begins', async () => {
  const engine = await openConsumerEngine('postgres');
  try {
    await engine.create({ name: 'c' });
    const polls = Array.from({ length: 5 }, () => engine.poll({ name: 'c', waitMs }));
    await eventually(() => engine.waiting.count() === 5);
    engine.draining.abort();
    for (const batch of await soon(Promise.all(polls))) expect(batch).toMatchObject({ events: [], cursor: null });
    expect(await engine.poll({ name: 'c', waitMs })).toMatchObject({ events: [] });
    expect([engine.waiting.count(), engine.watched()]).toEqual([0, []]);
    // what is there already is still given
    await engine.writeNotes(['x']);
    expect(positionsIn(await engine.poll({ name: 'c', waitMs }))).toEqual(['1']);
  } finally {
    await engine.close();
  }
});
