import { eventually } from '../test/support/eventually.ts';
import type { Worker } from '../test/support/worker.ts';
import type { Bed } from './support/bed.ts';
import { readCommitTimes } from './support/commits.ts';
import type { Flood, FloodLoad } from './support/flood-program.ts';
import { startPeakMeter } from './support/memory-meter.ts';
import type { Heard, ReaderCrowd } from './support/readers-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { type Cluster, startCluster } from './support/server.ts';
import { median, percentile } from './support/statistics.ts';
import { settleLog } from './support/store.ts';

interface Scene {
  readonly name: string;
  /** Who read all that comes. */
  readonly readers: number;
  /** Who read nothing, on one side only. */
  readonly stalled: number;
  readonly flood: Flood;
}

const ONE: Scene = {
  name: 'stalled: one of 20, events of 10 KB',
  readers: 19,
  stalled: 1,
  flood: { perSecond: 1_500, events: 20_000, batch: 10, bytes: 10_000 },
};

const MANY: Scene = {
  name: 'stalled: 50 of 60, events of 1 KB',
  readers: 10,
  stalled: 50,
  flood: { perSecond: 4_000, events: 50_000, batch: 25, bytes: 850 },
};

/** What a client may have queued, and what the transport may hold of it. */
const BUDGET_BYTES = 1024 * 1024 + 64 * 1024;
const MIB = 1024 * 1024;
/** In the log before the first round. */
const LOG_EVENTS = 2_000;
/** How many of the stalled go on afterwards, and how far: all of it would take longer than what is measured. */
const RESUMED = 1;
const RESUMED_EVENTS = 5_000;
const SLOW_CONSUMER = 4508;
/** A load that begins transactions later than this is not steady. */
const LATE_MS = 500;

interface Round {
  readonly peakBytes: number;
  /** ms from the commit to the frame, of each event at each reader. */
  readonly latencies: readonly number[];
  /** How many events a stalled client had still to read when it went on. */
  readonly missed: number;
}

/**
 * 20,000 events of 10 KB to 20 subscribers, of which one never reads, against the same to the 19 others: the peak of the
 * API process's memory, and the latency of those that read.
 */
export function benchStalled(bed: Bed, options: { readonly rounds: number }): Promise<Row[]> {
  return compare(bed, ONE, options);
}

/** 50,000 events of 1 KB to ten subscribers that read and 50 that never do, against the same to the ten. */
export function benchStalledMany(bed: Bed, options: { readonly rounds: number }): Promise<Row[]> {
  return compare(bed, MANY, options);
}

async function compare(bed: Bed, scene: Scene, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const stage = await openStage(bed, scene);
  const measured = await interleave<Round>({
    name: scene.name,
    rounds,
    subject: () => runRound(stage, scene.stalled),
    baseline: () => runRound(stage, 0),
  });
  const row = (name: string, unit: string, of: (round: Round) => number): Row => ({
    name: `${scene.name}, ${name}`,
    unit,
    subject: measured.subject.map(of),
    baseline: measured.baseline.map(of),
    limitedBy: describe(scene, measured.subject),
  });
  return [
    row('peak RSS of the API', 'MiB', ({ peakBytes }) => peakBytes / MIB),
    row("the others' p50", 'ms', ({ latencies }) => percentile(latencies, 50)),
    row("the others' p99", 'ms', ({ latencies }) => percentile(latencies, 99)),
  ];
}

function describe({ stalled }: Scene, rounds: readonly Round[]): string {
  const budget = ((stalled * BUDGET_BYTES) / MIB).toFixed(1);
  const missed = Math.round(median(rounds.map((round) => round.missed))).toLocaleString('en');
  return `${stalled} cut off with ${SLOW_CONSUMER}, ${budget} MiB of budget together; one went on behind its last event, ${missed} before the end`;
}

interface Stage {
  readonly scene: Scene;
  readonly cluster: Cluster;
  readonly readers: Worker<ReaderCrowd>;
  /** Who do not read. */
  readonly sleepers: Worker<ReaderCrowd>;
  readonly load: Worker<FloodLoad>;
}

async function openStage(bed: Bed, scene: Scene): Promise<Stage> {
  const cluster = await startCluster(bed);
  const crowd = new URL('support/readers-program.ts', import.meta.url);
  const [readers, sleepers] = [bed.startWorker<ReaderCrowd>(crowd), bed.startWorker<ReaderCrowd>(crowd)];
  const load = bed.startWorker<FloodLoad>(new URL('support/flood-program.ts', import.meta.url));
  await load.call('open', cluster.env);
  await load.call('run', { ...scene.flood, events: LOG_EVENTS });
  await settleLog(cluster.databaseUrl, LOG_EVENTS);
  await readers.call('open', { ...targetOf(cluster), count: scene.readers });
  return { scene, cluster, readers, sleepers, load };
}

function targetOf({ api }: Cluster) {
  return { url: api.wsUrl, key: api.key };
}

async function runRound(stage: Stage, stalled: number): Promise<Round> {
  const { scene, cluster, readers, sleepers, load } = stage;
  const target = targetOf(cluster);
  await sleepers.call('stall', { ...target, count: stalled });
  await untilStreams(cluster, scene.readers + stalled);
  const { events } = scene.flood;
  await readers.call('begin', { readers: scene.readers, events });
  const readPeak = startPeakMeter(cluster.api.pid);
  const [lateMs] = await Promise.all([load.call('run', scene.flood), untilCutOff(stage)]);
  if (lateMs > LATE_MS)
    process.stderr.write(`stalled: a transaction began ${Math.round(lateMs)} ms late: the machine is busy\n`);
  const heard = await readers.call('finish');
  const peakBytes = readPeak();
  const position = heard.position + events - 1;
  const resumed = Math.min(RESUMED, stalled);
  const missed = await sleepers.call('goOn', { ...target, position, resumed, events: RESUMED_EVENTS });
  const latencies = latenciesOf(heard, await readCommitTimes(cluster.databaseUrl, heard.position));
  return { peakBytes, latencies, missed: missed[0] ?? 0 };
}

/**
 * At once, while events still come: a socket that answers no ping is ended without a code. In a process of its own: in that of
 * the others, reading megabytes for each stalled socket delayed what was measured, to a p99 of 1.2 to 2.9 times.
 */
async function untilCutOff({ scene, cluster, sleepers }: Stage): Promise<void> {
  await untilStreams(cluster, scene.readers);
  const others = (await sleepers.call('readStalled')).filter((code) => code !== SLOW_CONSUMER);
  if (others.length > 0)
    throw new Error(
      `expected stalled sockets to be closed with ${SLOW_CONSUMER}, found ${[...new Set(others)].join(', ')} for ${others.length}; ` +
        '1006 is that of a missed ping: the machine is too busy to fill their queues in time',
    );
}

/** Subscriptions are not acknowledged, and the end of a socket that does not read shows at the server only. */
async function untilStreams({ api }: Cluster, count: number): Promise<void> {
  await eventually(
    async () => {
      const metrics = await (await fetch(new URL('/metrics', api.url))).text();
      return /^fanfare_streams (\d+)$/m.exec(metrics)?.[1] === String(count);
    },
    { deadlineMs: 60_000, everyMs: 250, describe: `the server to have ${count} streams` },
  );
}

function latenciesOf({ arrivals }: Heard, commits: readonly number[]): number[] {
  return Array.from(arrivals, (at, index) => at - (commits[index % commits.length] ?? Number.NaN));
}
