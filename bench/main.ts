import { join } from 'node:path';
import { benchDeliveries } from './deliveries.ts';
import { benchEmbedded } from './embedded.ts';
import { benchFanout, benchSse } from './fanout.ts';
import { benchIsolation } from './isolation.ts';
import { benchLatency } from './latency.ts';
import { benchMemory } from './memory.ts';
import { benchOrders } from './orders.ts';
import { benchResume } from './resume.ts';
import { benchStalled, benchStalledMany } from './stalled.ts';
import { benchSteady } from './steady.ts';
import { benchDocuments, benchStock } from './stock.ts';
import { benchStream } from './stream.ts';
import { type BenchArguments, readArguments, UsageError } from './support/arguments.ts';
import { type Bed, openBed } from './support/bed.ts';
import { describeMachine, printMachine } from './support/machine.ts';
import { countStatements, summarizeProfiles, summarizeStatements } from './support/profile.ts';
import { printJson, printTable, type Row } from './support/report.ts';

type Bench = (bed: Bed, options: { readonly rounds: number }) => Promise<Row[]>;

const BENCHES: ReadonlyMap<string, Bench> = new Map([
  ['latency', benchLatency],
  ['stream', benchStream],
  ['deliveries', benchDeliveries],
  ['steady', benchSteady],
  ['isolation', benchIsolation],
  ['fanout', benchFanout],
  ['sse', benchSse],
  ['memory', benchMemory],
  ['stock', benchStock],
  ['documents', benchDocuments],
  ['resume', benchResume],
  ['stalled', benchStalled],
  ['stalled-many', benchStalledMany],
  ['orders', benchOrders],
  ['embedded', benchEmbedded],
]);

const USAGE = `npm run bench [name…] [-- [--rounds N] [--json] [--profile FOLDER]]
  names     ${[...BENCHES.keys()].join(', ')}; without one all of them
  --rounds  counted rounds of each side, 5 without it
  --json    prints one JSON document instead of the table
  --profile writes a CPU profile of each process of Node into the folder, and sums them up with Postgres's statements:
            for a look at where time goes, not for figures
`;

/** @returns the exit code: 0 measured, 1 failed, 2 the command line was not understood, 130 interrupted */
async function main(args: readonly string[]): Promise<number> {
  const read = readArguments(args, [...BENCHES.keys()]);
  if (read.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const interrupted = Promise.withResolvers<'interrupted'>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.resolve('interrupted'));
  const bed = await openBed({ profileDir: read.profileDir });
  try {
    const work = runBenches(bed, read);
    work.catch(() => {}); // after an interruption it fails, since its processes end
    const outcome = await Promise.race([work, interrupted.promise]);
    if (outcome === 'interrupted') return 130;
    process.stdout.write(`${outcome}\n`);
    return 0;
  } finally {
    await bed.close();
  }
}

async function runBenches(bed: Bed, { names, rounds, json, profileDir }: BenchArguments): Promise<string> {
  const machine = await describeMachine({ databaseUrl: bed.adminUrl, redisUrl: bed.redisUrl });
  const rows: Row[] = [];
  for (const name of names) {
    bed.begin(name);
    if (profileDir !== undefined) await countStatements(bed.adminUrl);
    rows.push(...((await BENCHES.get(name)?.(bed, { rounds })) ?? []));
    if (profileDir !== undefined) process.stderr.write(`${await summarizeStatements(bed.adminUrl)}\n\n`);
    await bed.stopOwned(); // they write their profiles now
    if (profileDir !== undefined) process.stderr.write(`${summarizeProfiles(join(profileDir, name))}\n\n`);
  }
  return json ? printJson(rows, machine) : `${printMachine(machine)}\n\n${printTable(rows)}`;
}

try {
  // connections that are open still, after a failure, keep nothing alive
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(error instanceof UsageError ? `${error.message}\n\n${USAGE}` : `bench: ${text}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}
