import { setTimeout as rest } from 'node:timers/promises';
import { withClient } from '../test/support/postgres-client.ts';
import type { Worker } from '../test/support/worker.ts';
import type { Bed } from './support/bed.ts';
import { type CallbackStage, openCallbackStage, postBarely, rateOf, SKU_LENGTH } from './support/callback-stage.ts';
import { latenciesOf, readCommits } from './support/commits.ts';
import type { FloodLoad } from './support/flood-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { median, percentile } from './support/statistics.ts';
import { describeCost, startUsageMeter, type Usage } from './support/usage.ts';

/** Of the rate of bare POSTs: what is offered in the steady state. */
const SHARE = 0.42;
const SECONDS = 10;
/** Of one transaction. */
const BATCH = 50;
const POSTS = 20_000;
/** Events that come alone. */
const SINGLES = 30;
const SINGLE_EVERY_MS = 300;
/** What the issue of speed asks for, in ms, and in statements. */
const BARS = { p50: 50, p99: 250, first: 50, statements: 6 };

interface Round {
  readonly perSecond: number;
  readonly latencies: readonly number[];
  /** Open deliveries after each third. */
  readonly open: readonly number[];
  readonly usage: Usage | undefined;
  readonly count: number;
}

/**
 * Events emitted in transactions of 50 at a fixed rate, each delivered to one webhook, bodies of 2 KB: callbacks a second at 0.42 of the
 * rate of bare signed POSTs, where the backlog must stay flat; latencies from the commit to the arrival at half of that; and
 * events that come alone, with the statements that each costs.
 */
export async function benchSteady(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const stage = await openCallbackStage(bed, 1);
  const flood = bed.startWorker<FloodLoad>(new URL('support/flood-program.ts', import.meta.url));
  await flood.call('open', stage.cluster.env);
  const timestamp = new Date().toISOString();
  const body = JSON.stringify({ type: 'stock.changed', timestamp, data: { sku: 'x'.repeat(1_900) } });
  const bare = await postBarely(stage, { count: POSTS, body });
  const run = (share: number) => runSteadily(stage, flood, Math.round((bare * share) / BATCH) * BATCH);
  const full = await interleave<Round>({
    name: 'steady',
    rounds,
    subject: () => run(SHARE),
    baseline: async () => ({ ...NOTHING, perSecond: await postBarely(stage, { count: POSTS, body }) }),
  });
  const half = await interleave<Round>({
    name: 'steady: at half of the rate',
    rounds,
    subject: () => run(SHARE / 2),
    baseline: async () => NOTHING,
  });
  const alone = await runAlone(stage, flood);
  return [
    {
      name: `steady: ${SHARE} of bare POSTs offered`,
      unit: 'deliveries/s',
      subject: full.subject.map(({ perSecond }) => perSecond),
      baseline: full.baseline.map(({ perSecond }) => perSecond),
      limitedBy: `${costOf(full.subject)}; open ${full.subject.map(({ open }) => open.join(', ')).join(' | ')}`,
    },
    barRow(
      'steady: commit to arrival at half, p50',
      half.subject.map(({ latencies }) => percentile(latencies, 50)),
      BARS.p50,
    ),
    barRow(
      'steady: commit to arrival at half, p99',
      half.subject.map(({ latencies }) => percentile(latencies, 99)),
      BARS.p99,
    ),
    barRow('steady: one event alone, p50', [percentile(alone.latencies, 50)], BARS.first),
    barRow('steady: one event alone, the slowest', [Math.max(...alone.latencies)], BARS.first),
    { ...barRow('steady: one event alone, transactions', [alone.statements], BARS.statements), unit: 'a delivery' },
  ];
}

const NOTHING: Round = { perSecond: 0, latencies: [], open: [], usage: undefined, count: 0 };

function costOf(rounds: readonly Round[]): string {
  return describeCost(rounds.flatMap(({ usage, count }) => (usage ? [{ usage, count }] : [])));
}

function barRow(name: string, subject: readonly number[], bar: number): Row {
  return { name, unit: 'ms', subject, baseline: [bar], limitedBy: 'the baseline is the bar' };
}

async function runSteadily(stage: CallbackStage, flood: Worker<FloodLoad>, perSecond: number): Promise<Round> {
  const { bed, cluster, worker, receiver, secrets } = stage;
  const count = perSecond * SECONDS;
  await receiver.call('begin', { count, secrets, verifyEach: 20 });
  const meter = startUsageMeter({
    webhooks: () => [worker.pid],
    relay: () => [cluster.relay.pid],
    receiver: () => [receiver.pid],
    emitter: () => [flood.pid],
    ...bed.parts,
  });
  const emitting = flood.call('run', { perSecond, events: count, batch: BATCH, bytes: SKU_LENGTH });
  const open: number[] = [];
  for (let third = 0; third < 3; third++) {
    await rest((SECONDS * 1_000) / 3.1);
    open.push(await countOpen(cluster.databaseUrl));
  }
  await emitting;
  const received = await receiver.call('finish');
  const usage = meter.stop();
  const commits = await readCommits(cluster.databaseUrl, count);
  return { perSecond: rateOf(received), latencies: latenciesOf(received.arrivals, commits), open, usage, count };
}

/** Transactions of Postgres are statements here: neither relay nor worker begins any of several. */
async function runAlone(
  { cluster, receiver, secrets }: CallbackStage,
  flood: Worker<FloodLoad>,
): Promise<{ readonly latencies: readonly number[]; readonly statements: number }> {
  const idleMs = SINGLES * SINGLE_EVERY_MS;
  const before = await countTransactions(cluster.databaseUrl);
  await rest(idleMs);
  const idle = (await countTransactions(cluster.databaseUrl)) - before;
  await receiver.call('begin', { count: SINGLES, secrets, verifyEach: 1 });
  const start = await countTransactions(cluster.databaseUrl);
  await flood.call('run', { perSecond: 1_000 / SINGLE_EVERY_MS, events: SINGLES, batch: 1, bytes: SKU_LENGTH });
  const received = await receiver.call('finish');
  await rest(SINGLE_EVERY_MS);
  const busy = (await countTransactions(cluster.databaseUrl)) - start;
  const latencies = latenciesOf(received.arrivals, await readCommits(cluster.databaseUrl, SINGLES));
  return { latencies, statements: median([(busy - idle) / SINGLES]) };
}

function countOpen(databaseUrl: string): Promise<number> {
  return readNumber(databaseUrl, 'select count(*)::int as value from fanfare.delivery');
}

function countTransactions(databaseUrl: string): Promise<number> {
  return readNumber(
    databaseUrl,
    'select (xact_commit + xact_rollback)::int as value from pg_stat_database where datname = current_database()',
  );
}

function readNumber(databaseUrl: string, query: string): Promise<number> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ value: number }>(query);
    return rows[0]?.value ?? -1;
  });
}
