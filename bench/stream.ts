import type { Worker } from '../test/support/worker.ts';
import type { CommitPublish } from './baselines/commit-publish.ts';
import type { Bed } from './support/bed.ts';
import type { ChangeLoad } from './support/change-program.ts';
import { describeStages, latenciesOf, readCommits, type Stages, stagesOf } from './support/commits.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { type Cluster, startCluster } from './support/server.ts';
import { percentile } from './support/statistics.ts';
import { insertProducts } from './support/store.ts';
import type { Watch } from './support/watch-program.ts';

const PER_SECOND = 200;
const SECONDS = 5;
const COUNT = PER_SECOND * SECONDS;
/** A load that begins changes later than this is not steady. */
const LATE_MS = 50;

interface Round {
  /** ms from the commit to the frame, one for each event. */
  readonly latencies: readonly number[];
  readonly stages: Stages | undefined;
}

/**
 * From the commit of a change to its frame on a WebSocket, at a steady 200 events a second, one in each transaction, without
 * webhooks: the engine's transaction in a program of its own, one process for each of the roles api and relay. Counted
 * from the commit record's time in Postgres. Against one insert on bare `pg` and one message through Redis, at the same
 * rate and of the frame's size.
 */
export async function benchStream(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const subject = await openSubject(bed);
  const baseline = bed.startWorker<CommitPublish>(new URL('baselines/commit-publish.ts', import.meta.url));
  await baseline.call('open', { databaseUrl: await bed.createDatabase(), redisUrl: bed.redisUrl });
  let bytes = 0;
  const measured = await interleave<Round>({
    name: 'stream',
    rounds,
    subject: async () => {
      const round = await runSubject(subject);
      bytes = round.frameBytes;
      return round;
    },
    baseline: async () => {
      const latencies = await baseline.call('run', { perSecond: PER_SECOND, count: COUNT, bytes });
      return { latencies, stages: undefined };
    },
  });
  const limitedBy = describeStages(measured.subject.flatMap(({ stages }) => (stages ? [stages] : [])));
  return [50, 99].map((percent) => ({
    name: `stream: commit to frame, p${percent}`,
    unit: 'ms',
    subject: measured.subject.map(({ latencies }) => percentile(latencies, percent)),
    baseline: measured.baseline.map(({ latencies }) => percentile(latencies, percent)),
    limitedBy,
  }));
}

interface Subject {
  readonly cluster: Cluster;
  readonly productIds: readonly string[];
  readonly load: Worker<ChangeLoad>;
  readonly watch: Worker<Watch>;
}

async function openSubject(bed: Bed): Promise<Subject> {
  const cluster = await startCluster(bed);
  const productIds = await insertProducts(cluster.databaseUrl, 100);
  const load = bed.startWorker<ChangeLoad>(new URL('support/change-program.ts', import.meta.url));
  const watch = bed.startWorker<Watch>(new URL('support/watch-program.ts', import.meta.url));
  await load.call('open', cluster.env);
  await watch.call('open', { url: cluster.api.wsUrl, key: cluster.api.key });
  return { cluster, productIds, load, watch };
}

async function runSubject({ cluster, productIds, load, watch }: Subject) {
  await watch.call('begin', COUNT);
  const lateMs = await load.call('adjustSteadily', { productIds, perSecond: PER_SECOND, count: COUNT });
  if (lateMs > LATE_MS)
    process.stderr.write(`stream: a change began ${Math.round(lateMs)} ms late: the machine is busy\n`);
  const { arrivals, frameBytes } = await watch.call('finish');
  const commits = await readCommits(cluster.databaseUrl, COUNT);
  return { latencies: latenciesOf(arrivals, commits), stages: stagesOf(arrivals, commits), frameBytes };
}
