import { describe, expect, it } from 'vitest';
import { BUDGET_BYTES, describeNonReaders, expectUnharmed } from '../support/chaos/expect-non-readers.ts';
import { hoardFor, runNonReaders } from '../support/chaos/non-readers.ts';

const NON_READERS = 6;
/** Of 1 KB: 13 MB for each, of which the system takes 4 to 6. */
const EVENTS = 10_000;
/** What the heap of a server swings by under this load without them. */
const SWING_BYTES = 110 * 1024 * 1024;
/** What they may hold after a collection: 7.5 MiB, beside busy loops, too, measured on 2026-11-22. */
const HELD_BYTES = NON_READERS * BUDGET_BYTES + 8 * 1024 * 1024;

describe('subscribers that never read', () => {
  it('are cut off with 4508, cost their budgets and nobody else, and resume without loss', async () => {
    const run = await runNonReaders({ nonReaders: NON_READERS, events: EVENTS, warmUp: 2_000, resuming: 1 });
    process.stdout.write(`${describeNonReaders(run)}\n`);
    expectUnharmed(run, {
      growthBytes: 2 * NON_READERS * BUDGET_BYTES + SWING_BYTES,
      heldBytes: HELD_BYTES,
    });
  });

  it('would cost far more than their budgets if a server kept what they do not take', async () => {
    for (const held of await hoardFor(3, { messages: EVENTS, bytes: 1_250 })) {
      expect(held).toBeGreaterThan(3 * BUDGET_BYTES);
      expect(NON_READERS * held).toBeGreaterThan(HELD_BYTES);
    }
  });
});
