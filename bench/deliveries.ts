import { eventually } from '../test/support/eventually.ts';
import { withClient } from '../test/support/postgres-client.ts';
import type { Bed } from './support/bed.ts';
import { type CallbackStage, openCallbackStage, postBarely, rateOf, SKU_LENGTH } from './support/callback-stage.ts';
import type { Received } from './support/receiver-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { emitStockChanges } from './support/store.ts';
import { describeCost, startUsageMeter, type Usage } from './support/usage.ts';

interface Load {
  readonly name: string;
  readonly webhooks: number;
  readonly events: number;
}

const LOADS: readonly Load[] = [
  { name: 'one webhook, 20,000', webhooks: 1, events: 20_000 },
  { name: '16 webhooks, 100,000', webhooks: 16, events: 6_250 },
];
/** Posts of a round of the baseline. */
const POSTS = 20_000;
/** Of one transaction. */
const BATCH = 1_000;

interface Round {
  readonly perSecond: number;
  readonly usage: Usage | undefined;
}

/**
 * A backlog delivered, bodies of 2 KB: callbacks a second between the first and the last arrival at the receiver, against bare signed
 * POSTs of the same body, at the same concurrency, to the same receiver. The worker is frozen while the backlog gathers.
 */
export async function benchDeliveries(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const rows: Row[] = [];
  for (const load of LOADS) {
    const stage = await openCallbackStage(bed, load.webhooks);
    let body = '';
    const measured = await interleave<Round>({
      name: `deliveries: ${load.name}`,
      rounds,
      subject: async () => {
        const { received, usage } = await drain(stage, load);
        body = received.body;
        return { perSecond: rateOf(received), usage };
      },
      baseline: async () => ({ perSecond: await postBarely(stage, { count: POSTS, body }), usage: undefined }),
    });
    await bed.stopOwned();
    rows.push({
      name: `deliveries: backlog of ${load.name}`,
      unit: 'deliveries/s',
      subject: measured.subject.map(({ perSecond }) => perSecond),
      baseline: measured.baseline.map(({ perSecond }) => perSecond),
      limitedBy: describeCost(
        measured.subject.flatMap(({ usage }) => (usage ? [{ usage, count: countOf(load) }] : [])),
      ),
    });
  }
  return rows;
}

async function drain(
  stage: CallbackStage,
  load: Load,
): Promise<{ readonly received: Received; readonly usage: Usage }> {
  const { bed, cluster, worker, receiver, secrets } = stage;
  const { databaseUrl } = cluster;
  process.kill(worker.pid, 'SIGSTOP');
  await gatherBacklog(databaseUrl, load);
  const meter = startUsageMeter({ webhooks: () => [worker.pid], receiver: () => [receiver.pid], ...bed.parts });
  await receiver.call('begin', { count: countOf(load), secrets, verifyEach: 20 });
  process.kill(worker.pid, 'SIGCONT');
  const received = await receiver.call('finish');
  const usage = meter.stop();
  requireEach(received, load);
  await untilRecorded(databaseUrl);
  return { received, usage };
}

function countOf({ webhooks, events }: Load): number {
  return webhooks * events;
}

async function gatherBacklog(databaseUrl: string, load: Load): Promise<void> {
  for (let left = load.events; left > 0; left -= BATCH)
    await emitStockChanges(databaseUrl, Math.min(left, BATCH), SKU_LENGTH);
  await eventually(async () => (await countOpen(databaseUrl)) === countOf(load), { deadlineMs: 120_000, everyMs: 200 });
}

/** What arrived is recorded a moment later. @throws Error if a delivery stays open */
function untilRecorded(databaseUrl: string): Promise<true> {
  return eventually(async () => (await countOpen(databaseUrl)) === 0, { deadlineMs: 30_000, everyMs: 50 });
}

function countOpen(databaseUrl: string): Promise<number> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ count: number }>('select count(*)::int as count from fanfare.delivery');
    return rows[0]?.count ?? -1;
  });
}

/** Each event came once for each webhook: as many callbacks as expected, of as many events. */
function requireEach({ arrivals, verified }: Received, load: Load): void {
  const distinct = new Set(arrivals.map(({ id }) => id)).size;
  if (distinct === load.events && arrivals.length === countOf(load) && verified > 0) return;
  throw new Error(`expected ${load.events} events for each webhook, found ${distinct} in ${arrivals.length} callbacks`);
}
