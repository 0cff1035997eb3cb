import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findFaults, retakesOf, type StormEvidence } from './kill-check.ts';
import { runStorm, type Storm } from './kill-storm.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

/** Leases a little shorter than shipped; with 1 s a busy machine let some of living workers run out. */
const SETTINGS = { deadlineMs: 1_500, leaseMs: 3_000, attemptMs: 2_000, pollMs: 20 };

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

describe('workers killed under load', () => {
  let storm: Storm;
  let evidence: StormEvidence;

  beforeAll(async () => {
    const options = { seed: 1, kills: 3, events: 120, webhooks: 10, fanout: 4, workers: 2, settings: SETTINGS };
    storm = await runStorm(engine, options);
    evidence = storm.evidence;
    process.stdout.write(`${storm.figures}\n`);
  });

  it('leave nothing out, and send again only what was in flight', () => {
    expect(evidence.killedAtMs.size).toBe(3);
    expect(evidence.expected.size).toBe(120 * 4);
    expect(findFaults(evidence)).toEqual([]);
    expect(retakesOf(evidence).length).toBeGreaterThan(0);
  });

  it('would be seen to lose, repeat and invent (control)', () => {
    const [first] = evidence.requests;
    const last = evidence.requests.at(-1);
    if (first === undefined || last === undefined) throw new Error('expected requests');
    const again = { ...last, sender: 'worker-alive' };
    expect(kindsOf({ requests: evidence.requests.filter(({ eventId }) => eventId !== first.eventId) })).toEqual([
      'missing',
    ]);
    expect(kindsOf({ done: [] })).toEqual(['missing']);
    expect(kindsOf({ killedAtMs: new Map() })).toEqual(['repeated']);
    expect(kindsOf({ requests: [...evidence.requests, again, again] })).toEqual(['repeated']);
    expect(
      kindsOf({ requests: [...evidence.requests, { ...last, atMs: last.atMs + 60_000, deliveryId: 'dlv_other' }] }),
    ).toEqual(['stray']);
    const recorded = evidence.done.map((each) => ({ ...each, finishedAtMs: 0 }));
    expect(kindsOf({ done: recorded })).toEqual(['resent']);
  });

  function kindsOf(doctored: Partial<StormEvidence>): string[] {
    return [...new Set(findFaults({ ...evidence, ...doctored }).map(({ kind }) => kind))];
  }
});
