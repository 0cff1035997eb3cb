import { eventually } from '../test/support/eventually.ts';
import { withClient } from '../test/support/postgres-client.ts';
import type { Worker } from '../test/support/worker.ts';
import type { SignedPoster } from './baselines/signed-posts.ts';
import type { Bed } from './support/bed.ts';
import { createClient } from './support/client.ts';
import type { CallbackReceiver, Expectation, Received } from './support/receiver-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { type Server, startCluster } from './support/server.ts';
import { createWebhook, emitStockChanges } from './support/store.ts';
import { describeCost, startUsageMeter, type Usage } from './support/usage.ts';

/** Deliveries under way to one webhook, at most: the worker's own cap, which the baseline gets too. */
const WEBHOOK_CAP = 8;

interface Load {
  readonly name: string;
  readonly webhooks: number;
  readonly events: number;
}

const LOADS: readonly Load[] = [
  { name: 'one webhook', webhooks: 1, events: 8_000 },
  { name: '16 webhooks', webhooks: 16, events: 1_000 },
];

/** Makes bodies of 2 KB. */
const SKU_LENGTH = 1_470;

interface Round {
  readonly perSecond: number;
  /** What was sent. */
  readonly body: string;
  readonly usage: Usage | undefined;
}

/**
 * A backlog delivered: callbacks a second between the first and the last arrival at the receiver, against bare signed POSTs
 * of the same body, at the same concurrency, to the same receiver. The worker is frozen while the backlog gathers.
 */
export async function benchDeliveries(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const rows: Row[] = [];
  for (const load of LOADS) {
    const stage = await openStage(bed, load);
    let body = '';
    const measured = await interleave<Round>({
      name: `deliveries: ${load.name}`,
      rounds,
      subject: async () => {
        const round = await runSubject(stage);
        body = round.body;
        return round;
      },
      baseline: () => runBaseline(stage, body),
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

interface Stage {
  readonly bed: Bed;
  readonly load: Load;
  readonly databaseUrl: string;
  readonly worker: Server;
  readonly receiver: Worker<CallbackReceiver>;
  readonly poster: Worker<SignedPoster>;
  readonly origin: string;
  /** By path. */
  readonly secrets: Readonly<Record<string, string>>;
}

async function openStage(bed: Bed, load: Load): Promise<Stage> {
  const { api, webhooks: worker, databaseUrl } = await startCluster(bed, { webhooks: true });
  if (worker === undefined) throw new Error('the cluster was started without the role webhooks');
  const receiver = bed.startWorker<CallbackReceiver>(new URL('support/receiver-program.ts', import.meta.url));
  const poster = bed.startWorker<SignedPoster>(new URL('baselines/signed-posts.ts', import.meta.url));
  const origin = await receiver.call('listen');
  const secrets = await registerWebhooks(api, { origin, count: load.webhooks });
  return { bed, load, databaseUrl, worker, receiver, poster, origin, secrets };
}

async function registerWebhooks(
  api: Server,
  { origin, count }: { readonly origin: string; readonly count: number },
): Promise<Readonly<Record<string, string>>> {
  const client = createClient(api, 1);
  const secrets: Record<string, string> = {};
  for (let at = 0; at < count; at++) secrets[`/hook/${at}`] = await createWebhook(client, `${origin}/hook/${at}`);
  await client.close();
  return secrets;
}

async function runSubject(stage: Stage): Promise<Round> {
  const { bed, load, databaseUrl, worker, receiver } = stage;
  await gatherBacklog(databaseUrl, { events: load.events, count: countOf(load), pid: worker.pid });
  const meter = startUsageMeter({ webhooks: () => [worker.pid], receiver: () => [receiver.pid], ...bed.parts });
  await receiver.call('begin', expectationOf(stage));
  process.kill(worker.pid, 'SIGCONT');
  const received = await receiver.call('finish');
  const usage = meter.stop();
  requireEach(received, load);
  await untilRecorded(databaseUrl);
  return { perSecond: rateOf(received), body: received.body, usage };
}

async function runBaseline(stage: Stage, body: string): Promise<Round> {
  const { load, receiver, poster, origin, secrets } = stage;
  await receiver.call('begin', expectationOf(stage));
  const posts = { count: countOf(load), concurrency: load.webhooks * WEBHOOK_CAP, body };
  await poster.call('run', { url: `${origin}/hook/0`, secret: secrets['/hook/0'] ?? '', ...posts });
  return { perSecond: rateOf(await receiver.call('finish')), body, usage: undefined };
}

function countOf({ webhooks, events }: Load): number {
  return webhooks * events;
}

function expectationOf({ load, secrets }: Stage): Expectation {
  return { count: countOf(load), secrets, verifyEach: 20 };
}

interface Backlog {
  readonly events: number;
  readonly count: number;
  /** Of the worker, which is frozen from here on. */
  readonly pid: number;
}

async function gatherBacklog(databaseUrl: string, { events, count, pid }: Backlog): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await emitStockChanges(databaseUrl, events, SKU_LENGTH);
  await eventually(async () => (await countOpen(databaseUrl)) === count, { deadlineMs: 60_000, everyMs: 50 });
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

function rateOf({ arrivals }: Received): number {
  const first = arrivals[0]?.at ?? 0;
  const last = arrivals.at(-1)?.at ?? 0;
  return ((arrivals.length - 1) * 1_000) / (last - first);
}
