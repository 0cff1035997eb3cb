import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LONG_WINDED, type MemoryRun, measureHostile } from './hostile-memory.ts';
import { HOSTILE_WAYS } from './hostile-scene.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED } from './worker-fleet.ts';

const LONG_MS = 1_800_000;

describe('the memory of a worker whose receivers do their worst, one kind after the other,', () => {
  let engine: WebhookEngine;
  let run: MemoryRun;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    const ways = { ...HOSTILE_WAYS, ...LONG_WINDED };
    run = await measureHostile(engine, { ways, rounds: 2, deliveries: 2_000, settings: AS_SHIPPED });
    process.stdout.write(`${run.figures}\n`);
  }, LONG_MS);
  afterAll(() => engine?.close());

  it('grows by less than 5 MB with each, while attempts are under way and after', () => {
    expect(run.steps.filter(({ heldMost, heldMore }) => Math.max(heldMost, heldMore) >= 5e6)).toEqual([]);
  });

  it('grows by less than 20 MB over all', () => {
    expect(run.heldMore).toBeLessThan(20e6);
  });
});
