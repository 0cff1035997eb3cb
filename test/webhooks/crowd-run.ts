import { openHealthyBeat, percentile } from './healthy-beat.ts';
import { type Mire, openHostileCrowd } from './hostile-crowd.ts';
import { openNoteLog } from './note-log.ts';
import type { WebhookEngine } from './webhook-engine.ts';
import { databaseUrlOf, openFleet, type WorkerSettings } from './worker-fleet.ts';

export interface CrowdOptions {
  readonly mire: Mire;
  readonly webhooks: number;
  /** By which the healthy one is called. */
  readonly host?: string;
  readonly rounds: number;
  /** What is compared is sent for so long at least: long enough that as many attempts of the crowd end in each round. @default once */
  readonly spanMs?: number;
  readonly settings: WorkerSettings;
}

/** How a healthy webhook of another account fares, a figure for each round. */
export interface Faring {
  /** Deliveries. */
  readonly perSecond: readonly number[];
  /** What the worker used of the processor in the same time, for each of them, in µs: says the same on a busy machine. */
  readonly cpuEach: readonly number[];
  /** From the commit to the arrival, in ms. */
  readonly p99: readonly number[];
}

export interface CrowdRun {
  /** Before the first round beside them, and after each. */
  readonly alone: Faring;
  readonly beside: Faring;
  /** Of its throughput without them, right before and right after, it has so much beside them: what else the machine does comes and goes. */
  readonly shares: readonly number[];
  /** In one line. */
  readonly figures: string;
}

/** Held of the 200 places that an account has in a process; a fourth of these is for webhooks that have nothing under way. */
const HELD = 150;
const EVENTS = 10;
const DRAINED = 4_000;
const BEAT_MS = 20;
const WATCH_MS = 8_000;

/** Watches a healthy webhook beside a crowd of one account that holds all places it can get, and without it. */
export async function watchBesideCrowd(engine: WebhookEngine, options: CrowdOptions): Promise<CrowdRun> {
  const { mire, webhooks, host, rounds, spanMs = 0, settings } = options;
  await using opened = new AsyncDisposableStack();
  const log = openNoteLog(engine.services);
  opened.defer(log.close);
  const crowd = opened.use(await openHostileCrowd({ engine, log }, webhooks, mire));
  const healthy = opened.use(await openHealthyBeat({ engine, log }, host));
  const fleet = openFleet(await databaseUrlOf(engine), { ...settings, isQuiet: true });
  opened.defer(fleet.close);
  const worker = fleet.launch();
  await worker.started();
  await healthy.drain(DRAINED);
  const alone = { perSecond: [] as number[], cpuEach: [] as number[], p99: [] as number[] };
  const beside = { perSecond: [] as number[], cpuEach: [] as number[], p99: [] as number[] };
  await watch(alone);
  for (let round = 0; round < rounds; round++) {
    await crowd.provoke(EVENTS, HELD);
    await watch(beside);
    await crowd.calm();
    await watch(alone);
  }
  const shares = beside.perSecond.map((rate, round) => rate / meanOf(alone.perSecond.slice(round, round + 2)));
  // what the same comparison says of nothing: the machine's own ups and downs
  const noise = alone.perSecond
    .slice(1, -1)
    .map((rate, at) => rate / meanOf(alone.perSecond.filter((_, n) => n === at || n === at + 2)));
  const figures = `${describeFaring(alone)} alone; ${describeFaring(beside)} beside them`;
  return { alone, beside, shares, figures: `${figures}; shares ${describe(shares)}, of nothing ${describe(noise)}` };

  async function watch({ perSecond, cpuEach, p99 }: typeof alone): Promise<void> {
    const cpuBefore = worker.cpuMs();
    let count = 0;
    let ms = 0;
    do {
      count += DRAINED;
      ms += (DRAINED / (await healthy.drain(DRAINED))) * 1_000;
    } while (ms < spanMs);
    perSecond.push(Math.round((count / ms) * 1_000));
    cpuEach.push(Math.round(((worker.cpuMs() - cpuBefore) / count) * 1_000));
    p99.push(percentile(await healthy.beat(WATCH_MS, BEAT_MS), 99));
  }
}

function describeFaring({ perSecond, cpuEach, p99 }: Faring): string {
  return `${perSecond.join(', ')} a second, for ${cpuEach.join(', ')} µs of CPU each, and a p99 of ${p99.join(', ')} ms`;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function describe(shares: readonly number[]): string {
  return shares.map((share) => share.toFixed(2)).join(', ');
}
