import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COVERED, OPEN } from './attack-coverage.ts';
import { openHealthyBeat, percentile } from './healthy-beat.ts';
import { openHostileCrowd } from './hostile-crowd.ts';
import { expectBounded } from './hostile-expect.ts';
import { type HostileRun, sendToHostile } from './hostile-run.ts';
import { openNoteLog } from './note-log.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED, databaseUrlOf, openFleet } from './worker-fleet.ts';

const LONG_MS = 1_800_000;
/** Rounds of each kind that are compared. */
const ROUNDS = 5;

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

describe('a worker whose receivers do their worst, each in its way,', () => {
  let run: HostileRun;

  beforeAll(async () => {
    run = await sendToHostile(engine, { rounds: ROUNDS, events: 4, watchMs: 8_000, settings: AS_SHIPPED });
    process.stdout.write(`${run.figures}\n`);
  }, LONG_MS);

  it('ends each attempt within the deadline and a second', () => {
    expectBounded(run, AS_SHIPPED.deadlineMs + 1_000);
  });

  it('takes no 20 MB more for it', () => {
    // the first round has loaded what it needs
    const [, first = 0, ...others] = run.rss;
    expect(Math.max(...others) - first).toBeLessThan(20e6);
  });

  it('sends to a healthy one as soon as without them', () => {
    expect(percentile(run.p99.beside, 50)).toBeLessThan(1.2 * noisy(run.p99.alone));
  });
});

it(
  'sends as much to another account beside 1,000 webhooks of one account that never answer',
  async () => {
    const log = openNoteLog(engine.services);
    await using crowd = await openHostileCrowd({ engine, log }, 1_000);
    await using healthy = await openHealthyBeat({ engine, log });
    const fleet = openFleet(await databaseUrlOf(engine), { ...AS_SHIPPED, isQuiet: true });
    const alone: number[] = [];
    const beside: number[] = [];
    try {
      await fleet.launch().started();
      await healthy.drain(2_000);
      for (let round = 0; round < ROUNDS; round++) {
        // by turns, so that neither is always the later one
        if (round % 2 === 0) alone.push(Math.round(await healthy.drain(4_000)));
        await crowd.provoke(10, 150);
        beside.push(Math.round(await healthy.drain(4_000)));
        await crowd.calm();
        if (round % 2 === 1) alone.push(Math.round(await healthy.drain(4_000)));
      }
    } finally {
      await fleet.close();
      await log.close();
    }
    process.stdout.write(`deliveries a second: ${alone.join(', ')} alone, ${beside.join(', ')} beside them\n`);
    const ratios = beside.map((rate, round) => rate / (alone[round] ?? Number.NaN));
    expect(percentile(ratios, 50)).toBeGreaterThanOrEqual(0.95);
  },
  LONG_MS,
);

/** The middle, or the most where it varies by more than a fifth by itself. */
function noisy(values: readonly number[]): number {
  return Math.max(percentile(values, 50), Math.max(...values) / 1.2);
}

const given = process.env.FANFARE_ATTACKS;

describe.runIf(given !== undefined)('a list of attacks', () => {
  it('has none on webhooks without a test', () => {
    // of the form that the list has
    const { attacks } = JSON.parse(readFileSync(join(given ?? '', 'graphql-attacks.json'), 'utf8')) as {
      readonly attacks: readonly { readonly id: string; readonly class: string }[];
    };
    const ids = attacks.filter((each) => each.class.startsWith('webhook-')).map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(0);
    expect(ids.filter((id) => !(id in COVERED || id in OPEN))).toEqual([]);
  });
});

it('finds the test of each attack', () => {
  const lacking = Object.entries(COVERED).filter(([, { file, words }]) => !textOf(file).includes(words));
  expect(lacking).toEqual([]);
});

function textOf(file: string): string {
  const url = new URL(file, import.meta.url);
  return existsSync(url) ? readFileSync(url, 'utf8') : '';
}
