import type { Worker } from '../test/support/worker.ts';
import type { CommitPublish } from './baselines/commit-publish.ts';
import type { Bed } from './support/bed.ts';
import { createClient } from './support/client.ts';
import { describeStages, latenciesOf, readCommits, type Stages, stagesOf } from './support/commits.ts';
import type { Load } from './support/load-program.ts';
import type { CallbackReceiver } from './support/receiver-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { type Cluster, startCluster } from './support/server.ts';
import { percentile } from './support/statistics.ts';
import { createWebhook, insertProducts } from './support/store.ts';
import { describeCost, startUsageMeter, type Usage } from './support/usage.ts';
import type { Watch } from './support/watch-program.ts';

const PER_SECOND = 200;
const SECONDS = 5;
const COUNT = PER_SECOND * SECONDS;
const CONNECTIONS = 32;
/** A load that begins calls later than this is not steady. */
const LATE_MS = 50;

/** Latencies of one round, in ms. */
interface Round {
  readonly frame: readonly number[];
  readonly callback: readonly number[];
  readonly stages: Stages | undefined;
  readonly usage: Usage | undefined;
}

/**
 * From the commit of a change to its frame on a WebSocket, and to its callback, at a steady 200 changes a second by HTTP,
 * against one insert on bare `pg` and one message through Redis, at the same rate and of the frame's size. Counted from the
 * commit record's time in Postgres: the flush of the change's own commit is in.
 */
export async function benchLatency(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const subject = await openSubject(bed);
  const baseline = bed.startWorker<CommitPublish>(new URL('baselines/commit-publish.ts', import.meta.url));
  await baseline.call('open', { databaseUrl: await bed.createDatabase(), redisUrl: bed.redisUrl });
  let bytes = 0;
  const measured = await interleave<Round>({
    name: 'latency',
    rounds,
    subject: async () => {
      const round = await subject.run();
      bytes = round.frameBytes;
      return round;
    },
    baseline: async () => {
      const latencies = await baseline.call('run', { perSecond: PER_SECOND, count: COUNT, bytes });
      return { frame: latencies, callback: latencies, stages: undefined, usage: undefined };
    },
  });
  const used = measured.subject.flatMap(({ usage }) => (usage ? [{ usage, count: COUNT }] : []));
  const limits = {
    frame: describeStages(measured.subject.flatMap(({ stages }) => (stages ? [stages] : []))),
    callback: describeCost(used),
  };
  return (['frame', 'callback'] as const).flatMap((channel) =>
    [50, 99].map((percent) => ({
      name: `latency: commit to ${channel}, p${percent}`,
      unit: 'ms',
      subject: measured.subject.map((round) => percentile(round[channel], percent)),
      baseline: measured.baseline.map((round) => percentile(round[channel], percent)),
      limitedBy: limits[channel],
    })),
  );
}

async function openSubject(bed: Bed) {
  const cluster = await startCluster(bed, { webhooks: true });
  const productIds = await insertProducts(cluster.databaseUrl, 100);
  const load = bed.startWorker<Load>(new URL('support/load-program.ts', import.meta.url));
  const watch = bed.startWorker<Watch>(new URL('support/watch-program.ts', import.meta.url));
  const receiver = bed.startWorker<CallbackReceiver>(new URL('support/receiver-program.ts', import.meta.url));
  await load.call('connect', { url: cluster.api.url, key: cluster.api.key }, CONNECTIONS);
  await watch.call('open', { url: cluster.api.wsUrl, key: cluster.api.key });
  const origin = await receiver.call('listen');
  const client = createClient(cluster.api, 1);
  const secret = await createWebhook(client, `${origin}/hook`);
  await client.close();
  return { run: () => runSubject({ bed, cluster, productIds, load, watch, receiver, secret }) };
}

interface Subject {
  readonly bed: Bed;
  readonly cluster: Cluster;
  readonly productIds: readonly string[];
  readonly load: Worker<Load>;
  readonly watch: Worker<Watch>;
  readonly receiver: Worker<CallbackReceiver>;
  readonly secret: string;
}

async function runSubject(subject: Subject): Promise<Round & { readonly frameBytes: number }> {
  const { bed, cluster, productIds, load, watch, receiver, secret } = subject;
  const { api, relay, webhooks } = cluster;
  await watch.call('begin', COUNT);
  await receiver.call('begin', { count: COUNT, verifyEach: 1, secrets: { '/hook': secret } });
  const meter = startUsageMeter({
    api: () => [api.pid],
    relay: () => [relay.pid],
    webhooks: () => (webhooks ? [webhooks.pid] : []),
    ...bed.parts,
  });
  const lateMs = await load.call('adjustSteadily', { productIds, perSecond: PER_SECOND, count: COUNT });
  if (lateMs > LATE_MS)
    process.stderr.write(`latency: a call began ${Math.round(lateMs)} ms late: the machine is busy\n`);
  const [watched, received] = await Promise.all([watch.call('finish'), receiver.call('finish')]);
  const usage = meter.stop();
  const commits = await readCommits(cluster.databaseUrl, COUNT);
  return {
    frame: latenciesOf(watched.arrivals, commits),
    callback: latenciesOf(received.arrivals, commits),
    stages: stagesOf(watched.arrivals, commits),
    usage,
    frameBytes: watched.frameBytes,
  };
}
