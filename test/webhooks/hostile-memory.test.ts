import { afterAll, beforeAll, expect, it } from 'vitest';
import { LONG_WINDED, measureHostile } from './hostile-memory.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const SETTINGS = { deadlineMs: 1_000, pollMs: 20 };
const OPTIONS = { ways: LONG_WINDED, rounds: 1, deliveries: 300 };

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

it('a worker holds next to nothing of receivers that never come to an end', async () => {
  const run = await measureHostile(engine, { ...OPTIONS, settings: SETTINGS });
  process.stdout.write(`${run.figures}\n`);
  expect(run.heldMore).toBeLessThan(20e6);
});

it('a worker that sets no bounds is seen to hold what they sent (negative control)', async () => {
  const settings = { ...SETTINGS, isNaive: true };
  const run = await measureHostile(engine, { ...OPTIONS, settings });
  process.stdout.write(`${run.figures}\n`);
  expect(run.heldMore).toBeGreaterThan(20e6);
});
