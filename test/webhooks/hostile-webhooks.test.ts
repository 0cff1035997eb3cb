import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectBounded } from './hostile-expect.ts';
import { type HostileRun, sendToHostile } from './hostile-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const DEADLINE_MS = 1_000;

describe('a worker whose receivers do their worst, each in its way,', () => {
  let engine: WebhookEngine;
  let run: HostileRun;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    const settings = { deadlineMs: DEADLINE_MS, pollMs: 20 };
    run = await sendToHostile(engine, { rounds: 1, events: 2, watchMs: 500, settings });
    process.stdout.write(`${run.figures}\n`);
  });
  afterAll(() => engine?.close());

  it('ends each attempt within the deadline and a second', () => {
    // a busy machine may be late with all of them
    expectBounded(run, { deadlineMs: DEADLINE_MS, slackMs: 1_000 });
  });

  it('holds no 20 MB more for it', () => {
    const [before = 0, after = 0] = run.memory.map(({ held }) => held);
    expect(after - before).toBeLessThan(20e6);
  });

  it('sends to a healthy one meanwhile', () => {
    expect(Math.max(...run.p99.beside)).toBeLessThan(5_000);
  });
});
