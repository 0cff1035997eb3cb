import { createHash } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { expectControlsToLose, expectKept, expectKilled } from '../support/kill/expect-kept.ts';
import { writeInvoices } from '../support/kill/invoice-file.ts';
import { type KillRun, type KillRunOptions, killRun } from '../support/kill/kill-run.ts';

/** By `npm run test:long -- --data FOLDER`. */
const given = process.env.FANFARE_DATA;
/** What files that are known add up to, by their SHA-256. */
const KNOWN_TOTALS: Readonly<Record<string, string>> = {
  b7c8ea32426d52528666d9e6f0eaaf5884d915d0663838a687b97d0ad38691c3: '93029.47',
};
const ONE_RUN_MS = 1_800_000;

describe(`the replay of ${given === undefined ? '236 made-up invoices' : "a retailer's two days"}`, () => {
  let file: string;

  beforeAll(async () => {
    file = given === undefined ? await makeUp() : join(given, 'online-retail.csv');
  });

  it(
    'gives four equal sequences from three processes',
    async () => {
      const { evidence } = await judged({ form: 'three', file, seed: 1 });
      const sha256 = createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
      // of a made-up file only the judge knows the total
      if (given !== undefined) expect(evidence.total).toBe(KNOWN_TOTALS[sha256]);
    },
    ONE_RUN_MS,
  );

  it(
    'gives them while each of four processes is killed 20 times and Redis 5 times',
    () => {
      const kills = { api: 20, live: 20, relay: 20, webhooks: 20, redis: 5 };
      return judged({ form: 'cluster', file, kills, seed: 2 });
    },
    ONE_RUN_MS,
  );

  it(
    'gives them for 60 invoices while the embedded process is killed 20 times',
    () => judged({ form: 'embedded', file, invoices: 60, kills: { server: 20 }, seed: 3 }),
    ONE_RUN_MS,
  );
});

async function judged(options: KillRunOptions): Promise<KillRun> {
  const run = await killRun(options);
  console.log(run.report);
  expectKilled(run, options.kills ?? {});
  expectKept(run);
  expectControlsToLose(run);
  return run;
}

async function makeUp(): Promise<string> {
  const path = join(await mkdtemp(join(inject('run').scratchDir, 'invoices-')), 'made-up.csv');
  await writeInvoices(path, { invoices: 236, rows: 4_700, products: 1_450, customers: 160, seed: 2 });
  return path;
}
