import { expect, it } from 'vitest';
import { BUDGET_BYTES, describeNonReaders, expectUnharmed } from '../support/chaos/expect-non-readers.ts';
import { hoardFor, runNonReaders } from '../support/chaos/non-readers.ts';

const NON_READERS = 50;
const EVENTS = 50_000;
/** Between two runs, and of the queues' texts on their way to bytes: 20 to 30 MiB, measured on 2026-11-22. */
const SWING_BYTES = 60 * 1024 * 1024;

it('fifty subscribers that never read 50,000 events of 1 KB cost their budgets and nobody else', async () => {
  const load = { events: EVENTS, warmUp: 10_000 };
  const without = await runNonReaders({ ...load, nonReaders: 0, resuming: 0 });
  const run = await runNonReaders({ ...load, nonReaders: NON_READERS, resuming: 5 });
  process.stdout.write(`${describeNonReaders(without)}\n${describeNonReaders(run)}\n`);
  const cost = NON_READERS * BUDGET_BYTES + SWING_BYTES;
  expectUnharmed(run, { growthBytes: without.growthBytes + cost, heldBytes: without.heldBytes + cost });
});

it('a server that keeps what they do not take would need gigabytes', async () => {
  const [held = 0] = await hoardFor(1, { messages: EVENTS, bytes: 1_250 });
  expect(held * NON_READERS).toBeGreaterThan(2e9);
});
