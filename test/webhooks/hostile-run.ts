import { eventually } from '../support/eventually.ts';
import { openHealthyBeat, percentile } from './healthy-beat.ts';
import { type HostileAttempt, openHostileScene } from './hostile-scene.ts';
import { openNoteLog } from './note-log.ts';
import type { WebhookEngine } from './webhook-engine.ts';
import { databaseUrlOf, openFleet, type WorkerMemory, type WorkerSettings } from './worker-fleet.ts';

export interface HostileOptions {
  readonly rounds: number;
  /** For each hostile webhook in a round. */
  readonly events: number;
  /** How long a healthy webhook is watched, without the others and with them. */
  readonly watchMs: number;
  readonly settings: WorkerSettings & { readonly deadlineMs: number };
}

export interface HostileRun {
  readonly attempts: readonly HostileAttempt[];
  /** How many of them there were to be, by what a receiver does. */
  readonly expected: number;
  /** From the commit to the arrival at a healthy webhook, p99 of each round in ms. */
  readonly p99: { readonly alone: readonly number[]; readonly beside: readonly number[] };
  /** The worker's at the end of each round; the first is before any. */
  readonly memory: readonly WorkerMemory[];
  /** In one line. */
  readonly figures: string;
}

const BEAT_MS = 20;

/** Sends to hostile receivers in rounds, from one process, and to a healthy one in and between them. */
export async function sendToHostile(engine: WebhookEngine, options: HostileOptions): Promise<HostileRun> {
  const { rounds, events, watchMs, settings } = options;
  await using opened = new AsyncDisposableStack();
  const log = openNoteLog(engine.services);
  opened.defer(log.close);
  const hostile = opened.use(await openHostileScene({ engine, log }));
  const healthy = opened.use(await openHealthyBeat({ engine, log }));
  const fleet = openFleet(await databaseUrlOf(engine), { ...settings, isQuiet: true });
  opened.defer(fleet.close);
  const worker = fleet.launch();
  await worker.started();
  const alone: number[] = [];
  const beside: number[] = [];
  await healthy.beat(watchMs, BEAT_MS); // it has loaded all that it needs
  const memory = [await worker.memory()];
  for (let round = 1; round <= rounds; round++) {
    alone.push(percentile(await healthy.beat(watchMs, BEAT_MS), 99));
    await hostile.provoke(events);
    beside.push(percentile(await healthy.beat(watchMs, BEAT_MS), 99));
    await eventually(() => isOver(round), { deadlineMs: 600_000, everyMs: 100 });
    memory.push(await worker.memory());
  }
  const attempts = await hostile.attempts();
  const run = { attempts, expected: rounds * events, p99: { alone, beside }, memory };
  return { ...run, figures: describeRun(run) };

  /** What is held need not wait: all is tried. */
  async function isOver(round: number): Promise<boolean> {
    await engine.advanceClock(1_000);
    const { length } = await hostile.attempts();
    return length >= round * events * hostile.webhooks.size;
  }
}

function describeRun({ attempts, p99, memory }: Omit<HostileRun, 'figures'>): string {
  const longest = Math.max(...attempts.map(({ durationMs }) => durationMs));
  const megabytes = (part: keyof WorkerMemory) => memory.map((each) => Math.round(each[part] / 1e6)).join(', ');
  return [
    `${attempts.length} hostile attempts, the longest ${longest} ms`,
    `a healthy webhook's p99 ${p99.alone.join(', ')} ms alone, ${p99.beside.join(', ')} ms beside them`,
    `${megabytes('held')} MB held of ${megabytes('rss')}`,
  ].join('; ');
}
