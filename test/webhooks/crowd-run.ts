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
  readonly settings: WorkerSettings;
}

/** How a healthy webhook of another account fares, a figure for each round. */
export interface Faring {
  /** Deliveries. */
  readonly perSecond: readonly number[];
  /** From the commit to the arrival, in ms. */
  readonly p99: readonly number[];
}

export interface CrowdRun {
  readonly alone: Faring;
  readonly beside: Faring;
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
  const { mire, webhooks, host, rounds, settings } = options;
  await using opened = new AsyncDisposableStack();
  const log = openNoteLog(engine.services);
  opened.defer(log.close);
  const crowd = opened.use(await openHostileCrowd({ engine, log }, webhooks, mire));
  const healthy = opened.use(await openHealthyBeat({ engine, log }, host));
  const fleet = openFleet(await databaseUrlOf(engine), { ...settings, isQuiet: true });
  opened.defer(fleet.close);
  await fleet.launch().started();
  await healthy.drain(DRAINED);
  const alone = { perSecond: [] as number[], p99: [] as number[] };
  const beside = { perSecond: [] as number[], p99: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    // by turns, so that neither is always the later one
    if (round % 2 === 0) await watch(alone);
    await crowd.provoke(EVENTS, HELD);
    await watch(beside);
    await crowd.calm();
    if (round % 2 === 1) await watch(alone);
  }
  return { alone, beside, figures: `${describeFaring(alone)} alone; ${describeFaring(beside)} beside them` };

  async function watch({ perSecond, p99 }: typeof alone): Promise<void> {
    perSecond.push(Math.round(await healthy.drain(DRAINED)));
    p99.push(percentile(await healthy.beat(WATCH_MS, BEAT_MS), 99));
  }
}

function describeFaring({ perSecond, p99 }: Faring): string {
  return `${perSecond.join(', ')} a second and a p99 of ${p99.join(', ')} ms`;
}
