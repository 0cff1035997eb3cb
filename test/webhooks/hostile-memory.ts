import type { Socket } from 'node:net';
import { eventually } from '../support/eventually.ts';
import { openHealthyBeat } from './healthy-beat.ts';
import { repeat } from './hostile-answers.ts';
import { answering, type HostileScene, type HostileWays, openHostileScene } from './hostile-scene.ts';
import { openNoteLog } from './note-log.ts';
import type { WebhookEngine } from './webhook-engine.ts';
import { databaseUrlOf, type FleetWorker, openFleet, type WorkerMemory, type WorkerSettings } from './worker-fleet.ts';

/** What a worker's memory came to with one kind of receivers, in bytes. */
export interface MemoryStep {
  readonly does: string;
  /** What it holds more than before at the worst moment that was seen. All are after forced collections. */
  readonly heldMost: number;
  /** What it holds more when all attempts have ended. */
  readonly heldMore: number;
  /** What the system has given it more then. */
  readonly rssMore: number;
}

export interface MemoryRun {
  readonly steps: readonly MemoryStep[];
  /** Over all steps, after the first deliveries to a healthy receiver. */
  readonly heldMore: number;
  readonly rssMore: number;
  /** A line for each. */
  readonly figures: string;
}

export interface MemoryOptions {
  readonly ways: HostileWays;
  /** How often all are gone through. */
  readonly rounds: number;
  /** To a healthy receiver, before and after. */
  readonly deliveries: number;
  readonly settings: WorkerSettings;
}

/** As many as are under way at once to a webhook that has fared well. */
const AT_ONCE = 8;

/** Has one worker send to one kind of receivers after the other, and measures its memory before and after each. */
export async function measureHostile(engine: WebhookEngine, options: MemoryOptions): Promise<MemoryRun> {
  const { ways, rounds, deliveries, settings } = options;
  await using opened = new AsyncDisposableStack();
  const log = openNoteLog(engine.services);
  opened.defer(log.close);
  const written = { engine, log };
  const healthy = opened.use(await openHealthyBeat(written));
  const fleet = openFleet(await databaseUrlOf(engine), { ...settings, isQuiet: true });
  opened.defer(fleet.close);
  const worker = fleet.launch();
  await worker.started();
  await healthy.drain(deliveries);
  const first = await worker.memory();
  const steps: MemoryStep[] = [];
  for (const [does, way] of Array.from({ length: rounds }, () => Object.entries(ways)).flat()) {
    // open to the end: what is held with it can't be given back by its going away
    const scene = opened.use(await openHostileScene(written, { [does]: way }));
    steps.push({ does, ...(await measureStep({ engine, worker, scene })) });
  }
  await healthy.drain(deliveries);
  const last = await worker.memory();
  const run = { steps, heldMore: last.held - first.held, rssMore: last.rss - first.rss };
  return { ...run, figures: describeRun(first, run) };
}

interface Measured {
  readonly engine: WebhookEngine;
  readonly worker: FleetWorker;
  readonly scene: HostileScene;
}

async function measureStep({ engine, worker, scene }: Measured): Promise<Omit<MemoryStep, 'does'>> {
  const before = await worker.memory();
  let most = before.held;
  await scene.provoke(AT_ONCE);
  await eventually(
    async () => {
      most = Math.max(most, (await worker.memory()).held);
      // what is held need not wait
      await engine.advanceClock(1_000);
      return (await scene.attempts()).length >= AT_ONCE;
    },
    { deadlineMs: 300_000, everyMs: 500, describe: `${AT_ONCE} attempts` },
  );
  const after = await worker.memory();
  return {
    heldMost: most - before.held,
    heldMore: after.held - before.held,
    rssMore: after.rss - before.rss,
  };
}

function describeRun(first: WorkerMemory, { steps, heldMore, rssMore }: Omit<MemoryRun, 'figures'>): string {
  return [
    `${inMb(first.held)} MB held of ${inMb(first.rss)} before`,
    ...steps.map(
      (step) =>
        `at most ${inMb(step.heldMost)} MB held, ${inMb(step.heldMore)} in the end, of ${inMb(step.rssMore)}: ${step.does}`,
    ),
    `${inMb(heldMore)} MB held of ${inMb(rssMore)} more over all`,
  ].join('\n');
}

function inMb(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

const MUCH = Buffer.alloc(8_000_000, 'm');

/** Receivers from which a sender that sets no bounds keeps 64 MB: they say much, and then never come to an end. */
export const LONG_WINDED: HostileWays = {
  'sends 8 MB and goes on in drips': answering((socket: Socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${2 * MUCH.length}\r\n\r\n`);
    socket.write(MUCH);
    repeat(socket, 'm', 20);
  }),
};
