import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { expectControlsToLose, expectKept, expectKilled } from '../support/kill/expect-kept.ts';
import { writeInvoices } from '../support/kill/invoice-file.ts';
import { type KillRun, killRun } from '../support/kill/kill-run.ts';

describe('four processes and Redis, killed under load', () => {
  const kills = { api: 2, live: 2, relay: 2, webhooks: 2, redis: 1 };
  let run: KillRun;

  beforeAll(async () => {
    const file = join(await mkdtemp(join(inject('run').scratchDir, 'invoices-')), 'made-up.csv');
    await writeInvoices(file, { invoices: 40, rows: 160, products: 80, customers: 12, seed: 1 });
    // the seed of a short schedule: one kill in four finds others still down
    run = await killRun({ form: 'cluster', file, kills, seed: 193, concurrency: 2 });
  }, 240_000);

  it('keep each acknowledged change, once, in one order, with the same JSON on every channel', () => {
    expectKilled(run, kills);
    expectKept(run);
  });

  it('lose events for careless clients: without cursor, on the bus alone, sent at most once', () => {
    expect(Object.keys(run.controls)).toHaveLength(3);
    expectControlsToLose(run);
  });
});
