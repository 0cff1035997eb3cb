import { setTimeout as rest } from 'node:timers/promises';
import type { Worker } from '../../test/support/worker.ts';
import { type CallbackStage, SKU_LENGTH } from './callback-stage.ts';
import { latenciesOf, readCommits } from './commits.ts';
import type { FloodLoad } from './flood-program.ts';
import { type StatementCounter, startStatementCounter } from './statements.ts';

/** What events that come alone have shown. */
export interface Alone {
  /** From the commit to the arrival, in ms. */
  readonly latencies: readonly number[];
  /** Of relay and worker, for each. */
  readonly statements: number;
}

const COUNT = 30;
const EVERY_MS = 300;

/**
 * Has events come one at a time. Counts the statements beyond those of as long a rest, in which relay and worker look for work as
 * well; the emitter's own do not count.
 */
export async function runAlone(
  { bed, cluster: { databaseUrl }, receiver, secrets }: CallbackStage,
  flood: Worker<FloodLoad>,
): Promise<Alone> {
  const counter = await startStatementCounter(bed, { databaseUrl, besides: 'fanfare.emit(' });
  const idle = await countDuring(counter, () => rest(COUNT * EVERY_MS));
  await receiver.call('begin', { count: COUNT, secrets, verifyEach: 1 });
  const busy = await countDuring(counter, async () => {
    await flood.call('run', { perSecond: 1_000 / EVERY_MS, events: COUNT, batch: 1, bytes: SKU_LENGTH });
    await rest(EVERY_MS); // what came of the last is recorded
  });
  const { arrivals } = await receiver.call('finish');
  await counter.stop();
  const latencies = latenciesOf(arrivals, await readCommits(databaseUrl, COUNT));
  return { latencies, statements: (busy.calls - (idle.calls * busy.ms) / idle.ms) / COUNT };
}

async function countDuring(
  { read }: StatementCounter,
  work: () => Promise<unknown>,
): Promise<{ readonly calls: number; readonly ms: number }> {
  const before = await read();
  const startedAtMs = performance.now();
  await work();
  const ms = performance.now() - startedAtMs;
  return { calls: (await read()) - before, ms };
}
