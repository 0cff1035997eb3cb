import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COVERED, OPEN } from './attack-coverage.ts';
import { type CrowdRun, watchBesideCrowd } from './crowd-run.ts';
import { percentile } from './healthy-beat.ts';
import { ANSWERED_NAME, createSilentNames, openSilentReceiver } from './hostile-crowd.ts';
import { expectBounded } from './hostile-expect.ts';
import { type HostileRun, sendToHostile } from './hostile-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED } from './worker-fleet.ts';

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

  it('ends each attempt within the deadline and half a second', () => {
    expectBounded(run, { deadlineMs: AS_SHIPPED.deadlineMs, slackMs: 500 });
  });

  it('holds no 20 MB more for it', () => {
    const [before = 0, ...rounds] = run.memory.map(({ held }) => held);
    expect(Math.max(...rounds) - before).toBeLessThan(20e6);
  });

  it('sends to a healthy one as soon as without them', () => {
    expect(percentile(run.p99.beside, 50)).toBeLessThan(1.2 * noisy(run.p99.alone));
  });
});

describe('a worker sends to another account as much and as soon', () => {
  it(
    'beside 1,000 webhooks of one account that never answer',
    async () => {
      const mire = await openSilentReceiver();
      expectUnmoved(await watchBesideCrowd(engine, { mire, webhooks: 1_000, rounds: ROUNDS, settings: AS_SHIPPED }));
    },
    LONG_MS,
  );

  it(
    'beside 200 webhooks of one account at names for which no server answers',
    async () => {
      const mire = createSilentNames();
      const named = await openWebhookEngine('postgres', mire);
      try {
        const settings = { ...AS_SHIPPED, nameServer: named.dns.address };
        // two times what a name takes: all its attempts end at once
        const options = { mire, webhooks: 200, host: ANSWERED_NAME, rounds: ROUNDS, spanMs: 9_000, settings };
        expectUnmoved(await watchBesideCrowd(named, options));
        await expectNoneAnswered(named);
      } finally {
        await named.close();
      }
    },
    LONG_MS,
  );

  function expectUnmoved({ alone, beside, shares, figures }: CrowdRun): void {
    process.stdout.write(`${figures}\n`);
    expect(percentile(shares, 50)).toBeGreaterThanOrEqual(0.95);
    expect(percentile(beside.p99, 50)).toBeLessThan(1.2 * noisy(alone.p99));
  }

  /** Attempts at names without an answer end long before the deadline. */
  async function expectNoneAnswered({ services }: WebhookEngine): Promise<void> {
    const { rows } = await sql<{ error_class: string; count: number; longest_ms: number }>`
      select error_class, count(*)::int as count, max(duration_ms) as longest_ms from fanfare.attempt
      where error_class is not null group by error_class`.execute(services.database.db);
    process.stdout.write(`${JSON.stringify(rows)}\n`);
    expect(rows).toMatchObject([{ error_class: 'DNS' }]);
    expect(rows[0]?.longest_ms).toBeLessThan(AS_SHIPPED.deadlineMs);
  }
});

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
