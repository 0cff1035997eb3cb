import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Bus, type BusListener, type BusSubscription, MAX_MESSAGE_BYTES } from '../../src/bus/bus.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { eventually } from './eventually.ts';

/** What the suite runs against: two ends of one installation, which may be one object, and one end of another. */
export interface BusEnds {
  readonly publisher: Pick<Bus, 'publish'>;
  readonly subscriber: Pick<Bus, 'subscribe'>;
}

export interface BusUnderTest extends BusEnds {
  readonly publisher: Bus;
  readonly subscriber: Bus;
  /** Another installation on the same transport. */
  readonly stranger: Bus;
  /** What the subscriber observed. */
  readonly observed: readonly Observation[];
  /** How many subscriptions of the channel the transport holds for the installation; absent if it can't be asked. */
  readonly countSubscriptions?: (channel: string) => Promise<number>;
}

export function heardBy(messages: string[]): BusListener {
  return { message: (text) => void messages.push(text), interrupted() {}, resumed() {} };
}

/**
 * Waits until all that the publisher has published before has reached the subscriber or is lost: a mark sent after it on
 * a channel that is listened to already has come through. `close` ends that listening.
 */
export async function openFence({ publisher, subscriber }: BusEnds) {
  const marks: string[] = [];
  const subscription = await subscriber.subscribe('control', heardBy(marks));
  let sent = 0;
  const pass = async (): Promise<void> => {
    sent += 1;
    const mark = `mark ${sent}`;
    await publisher.publish('control', mark);
    await eventually(() => marks.includes(mark), { everyMs: 0 });
    marks.length = 0;
  };
  return { pass, close: () => subscription.close() };
}

/** Subscribes and publishes right after, once per round: how many of the messages were not heard. */
export async function countLostAfterSubscribe(ends: BusEnds, rounds: number): Promise<number> {
  const fence = await openFence(ends);
  let lost = 0;
  for (let round = 0; round < rounds; round += 1) {
    const heard: string[] = [];
    const subscription = await ends.subscriber.subscribe(`shard.${round % 16}`, heardBy(heard));
    await ends.publisher.publish(`shard.${round % 16}`, `message ${round}`);
    await fence.pass();
    if (!heard.includes(`message ${round}`)) lost += 1;
    await subscription.close();
  }
  await fence.close();
  return lost;
}

/** The contract of `Bus`, for one implementation. `open` is called for each test, and what it gives is closed by the suite. */
export function describeBus(name: string, open: () => Promise<BusUnderTest>): void {
  describe(`the ${name} bus`, () => {
    let bus: BusUnderTest;
    beforeEach(async () => {
      bus = await open();
    });
    afterEach(async () => {
      await Promise.all([bus.publisher.close(), bus.subscriber.close(), bus.stranger.close()]);
    });

    it('loses nothing published after a confirmed subscription', async () => {
      expect(await countLostAfterSubscribe(bus, 1_000)).toBe(0);
    });

    it("keeps a channel's order", async () => {
      const heard: string[] = [];
      await bus.subscriber.subscribe('shard.0', heardBy(heard));
      const sent = Array.from({ length: 2_000 }, (_, index) => `${index}`);
      await Promise.all(sent.map((text) => bus.publisher.publish('shard.0', text)));
      await eventually(() => heard.length === sent.length);
      expect(heard).toEqual(sent);
    });

    it("never calls a listener on its publisher's stack", async () => {
      const heard: string[] = [];
      await bus.subscriber.subscribe('wake', heardBy(heard));
      const published = bus.publisher.publish('wake', 'hint');
      expect(heard).toEqual([]);
      await published;
      await eventually(() => heard.length === 1);
    });

    it('lets listeners publish to each other without starving the event loop', async () => {
      let calls = 0;
      const answer = (channel: string): BusListener => ({
        ...heardBy([]),
        message: () => {
          calls += 1;
          bus.publisher.publish(channel, 'back').catch(() => {}); // rejected once, when the test closes the bus
        },
      });
      await bus.subscriber.subscribe('shard.1', answer('shard.2'));
      await bus.subscriber.subscribe('shard.2', answer('shard.1'));
      await bus.publisher.publish('shard.1', 'serve');
      await eventually(() => calls > 100);
    });

    it('tells each listener of a channel once, and none of another channel', async () => {
      const heard: string[][] = [[], [], []];
      const channels = ['shard.3', 'shard.3', 'shard.30'];
      await Promise.all(
        heard.map((messages, index) => bus.subscriber.subscribe(channels[index] ?? '', heardBy(messages))),
      );
      const fence = await openFence(bus);
      await bus.publisher.publish('shard.3', 'hello');
      await fence.pass();
      expect(heard).toEqual([['hello'], ['hello'], []]);
    });

    it('leaves no silent survivor and no leak however subscribing and closing race', async () => {
      const fence = await openFence(bus);
      // true subscribes, false closes the oldest; each starts without waiting for the one before, or a turn later.
      const steps = fc.array(fc.record({ subscribes: fc.boolean(), waits: fc.boolean() }), { maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(steps, (script) => raceSubscriptions(bus, fence.pass, script)),
        { numRuns: 150 },
      );
      await fence.close();
    });

    it('reports a listener that throws and goes on with the others', async () => {
      const heard: string[] = [];
      const broken = { ...heardBy([]), message: () => throwing('broken listener') };
      await bus.subscriber.subscribe('shard.4', broken);
      await bus.subscriber.subscribe('shard.4', heardBy(heard));
      const fence = await openFence(bus);
      for (let index = 0; index < 100; index += 1) await bus.publisher.publish('shard.4', `${index}`);
      await fence.pass();
      expect(heard).toHaveLength(100);
      const reports = bus.observed.filter(({ name }) => name === 'bus.listener_failed');
      expect(reports).toMatchObject([{ channel: 'shard.4', count: 1, error: new Error('broken listener') }]);
    });

    it('hears nothing of another installation', async () => {
      const heard: string[] = [];
      await bus.subscriber.subscribe('shard.5', heardBy(heard));
      const strange: string[] = [];
      await bus.stranger.subscribe('shard.5', heardBy(strange));
      const fences = [await openFence(bus), await openFence({ publisher: bus.stranger, subscriber: bus.stranger })];
      await bus.publisher.publish('shard.5', 'ours');
      await bus.stranger.publish('shard.5', 'theirs');
      for (const fence of fences) await fence.pass();
      expect({ heard, strange }).toEqual({ heard: ['ours'], strange: ['theirs'] });
    });

    it('takes a message of 256 KiB, counted in bytes, and none larger', async () => {
      const heard: string[] = [];
      await bus.subscriber.subscribe('shard.6', heardBy(heard));
      const largest = 'é'.repeat(MAX_MESSAGE_BYTES / 2);
      await bus.publisher.publish('shard.6', largest);
      await eventually(() => heard[0] === largest);
      await expect(bus.publisher.publish('shard.6', `${largest}.`)).rejects.toThrow(
        new RangeError(
          'a message on "shard.6" is 262145 bytes, the bus takes 262144: publish only the range, not the events',
        ),
      );
    });

    it('refuses at once what exceeds 16 MiB in hand', async () => {
      const message = 'x'.repeat(MAX_MESSAGE_BYTES);
      const outcomes = await Promise.allSettled(
        Array.from({ length: 66 }, () => bus.publisher.publish('shard.7', message)),
      );
      expect(outcomes.map(({ status }) => status)).toEqual([...Array(64).fill('fulfilled'), 'rejected', 'rejected']);
      expect(outcomes.at(-1)).toMatchObject({ reason: { code: 'UNAVAILABLE' } });
      await bus.publisher.publish('shard.7', message);
    });

    it('is silent and refuses everything once closed, and closes twice', async () => {
      const heard: string[] = [];
      const told: string[] = [];
      const subscription = await bus.subscriber.subscribe('shard.8', {
        message: (text) => void heard.push(text),
        interrupted: () => void told.push('interrupted'),
        resumed: () => void told.push('resumed'),
      });
      await bus.subscriber.close();
      await bus.subscriber.close();
      await expect(bus.subscriber.publish('shard.8', 'late')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await expect(bus.subscriber.subscribe('shard.8', heardBy(heard))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await subscription.close();
      expect({ heard, told }).toEqual({ heard: [], told: [] });
    });
  });
}

type Step = { readonly subscribes: boolean; readonly waits: boolean };

/** Runs the script, then checks that exactly the listeners still open hear a message, and that none is left after. */
async function raceSubscriptions(
  bus: BusUnderTest,
  settle: () => Promise<void>,
  script: readonly Step[],
): Promise<void> {
  const open: { readonly heard: string[]; readonly subscription: Promise<BusSubscription> }[] = [];
  const closed: string[][] = [];
  const closing: Promise<void>[] = [];
  const closeOldest = () => {
    const oldest = open.shift();
    if (oldest === undefined) return;
    closed.push(oldest.heard);
    closing.push(oldest.subscription.then((subscription) => subscription.close()));
  };
  for (const { subscribes, waits } of script) {
    const heard: string[] = [];
    if (subscribes) open.push({ heard, subscription: bus.subscriber.subscribe('shard.9', heardBy(heard)) });
    else closeOldest();
    if (waits) await nextTurn();
  }
  await Promise.all([...closing, ...open.map(({ subscription }) => subscription)]);
  await bus.publisher.publish('shard.9', 'still there?');
  await settle();
  expect(open.map(({ heard }) => heard)).toEqual(open.map(() => ['still there?']));
  expect(closed.flat()).toEqual([]);
  while (open.length > 0) closeOldest();
  await Promise.all(closing);
  if (bus.countSubscriptions) expect(await bus.countSubscriptions('shard.9')).toBe(0);
}

function throwing(message: string): never {
  throw new Error(message);
}
