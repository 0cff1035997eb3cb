import { setTimeout as rest } from 'node:timers/promises';
import { withClient } from '../test/support/postgres-client.ts';
import type { Worker } from '../test/support/worker.ts';
import { type Alone, runAlone } from './support/alone.ts';
import type { Bed } from './support/bed.ts';
import { type CallbackStage, openCallbackStage, postBarely, rateOf, SKU_LENGTH } from './support/callback-stage.ts';
import { latenciesOf, readCommits } from './support/commits.ts';
import type { FloodLoad } from './support/flood-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { percentile } from './support/statistics.ts';
import { describeCost, startUsageMeter, type Used } from './support/usage.ts';

/** Of the rate of bare POSTs: what is offered in the steady state. */
const SHARE = 0.42;
const SECONDS = 10;
/** Of one transaction. */
const BATCH = 50;
const POSTS = 20_000;
/** What the issue of speed asks for, in ms, and in statements. */
const BARS = { p50: 50, p99: 250, first: 50, statements: 6 };

/** Events at a fixed rate. */
interface Flow extends Used {
  readonly perSecond: number;
  readonly latencies: readonly number[];
  /** Open deliveries after each third. */
  readonly open: readonly number[];
}

interface Round {
  readonly full: Flow;
  readonly half: Flow;
  readonly alone: Alone;
}

/**
 * Events emitted in transactions of 50 at a fixed rate, each delivered to one webhook, bodies of 2 KB: callbacks a second at 0.42 of the
 * rate of bare signed POSTs, where the backlog must stay flat; latencies from the commit to the arrival at half of that; and
 * events that come alone, with the statements that each costs. All three take turns with the bare POSTs.
 */
export async function benchSteady(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const stage = await openCallbackStage(bed, 1);
  const flood = bed.startWorker<FloodLoad>(new URL('support/flood-program.ts', import.meta.url));
  await flood.call('open', stage.cluster.env);
  const timestamp = new Date().toISOString();
  const body = JSON.stringify({ type: 'stock.changed', timestamp, data: { sku: 'x'.repeat(1_900) } });
  const postAll = () => postBarely(stage, { count: POSTS, body });
  const bare = await postAll();
  const run = (share: number) => runSteadily(stage, flood, Math.round((bare * share) / BATCH) * BATCH);
  const { subject, baseline } = await interleave<Round, number>({
    name: 'steady',
    rounds,
    subject: async () => ({
      full: await run(SHARE),
      half: await run(SHARE / 2),
      alone: await runAlone(stage, flood),
    }),
    baseline: postAll,
  });
  return toRows(subject, baseline);
}

function toRows(rounds: readonly Round[], bare: readonly number[]): Row[] {
  const full = rounds.map((round) => round.full);
  const half = rounds.map(({ half: { latencies } }) => latencies);
  const alone = rounds.map((round) => round.alone);
  return [
    {
      name: `steady: ${SHARE} of bare POSTs offered`,
      unit: 'deliveries/s',
      subject: full.map(({ perSecond }) => perSecond),
      baseline: bare,
      limitedBy: `${describeCost(full)}; open ${full.map(({ open }) => open.join(', ')).join(' | ')}`,
    },
    barRow('steady: commit to arrival at half, p50', percentiles(half, 50), BARS.p50),
    barRow('steady: commit to arrival at half, p99', percentiles(half, 99), BARS.p99),
    barRow(
      'steady: one event alone, p50',
      percentiles(
        alone.map(({ latencies }) => latencies),
        50,
      ),
      BARS.first,
    ),
    barRow(
      'steady: one event alone, the slowest',
      alone.map(({ latencies }) => Math.max(...latencies)),
      BARS.first,
    ),
    {
      ...barRow(
        'steady: one event alone, statements',
        alone.map(({ statements }) => statements),
        BARS.statements,
      ),
      unit: 'a delivery',
    },
  ];
}

function percentiles(rounds: readonly (readonly number[])[], percent: number): number[] {
  return rounds.map((latencies) => percentile(latencies, percent));
}

function barRow(name: string, subject: readonly number[], bar: number): Row {
  return { name, unit: 'ms', subject, baseline: [bar], limitedBy: 'the baseline is the bar' };
}

async function runSteadily(stage: CallbackStage, flood: Worker<FloodLoad>, perSecond: number): Promise<Flow> {
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

function countOpen(databaseUrl: string): Promise<number> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ open: number }>('select count(*)::int as open from fanfare.delivery');
    return rows[0]?.open ?? -1;
  });
}
