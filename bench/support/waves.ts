import { eventually } from '../../test/support/eventually.ts';
import type { Worker } from '../../test/support/worker.ts';
import type { Crowd } from './crowd-program.ts';
import { median } from './statistics.ts';
import { startUsageMeter, type Used } from './usage.ts';
import { setWallClock, type WallClock } from './wall-clock.ts';

/** One side of a fan-out: who listens, who sends, and what makes it send. */
export interface Audience {
  readonly crowd: Worker<Crowd>;
  readonly sockets: number;
  readonly senderPid: number;
  /** Has so many events sent to each socket, in one turn or transaction. */
  send(events: number): Promise<void>;
  /** When the last wave's events were there to be sent, in ms of the day's clock. @default the moment of `send` */
  readonly readyAt?: () => Promise<number>;
}

/** How many events each wave brings to each socket, and how many waves there are. */
export interface WaveKind {
  readonly name: string;
  readonly events: number;
  readonly waves: number;
}

export interface WaveFigures extends Used {
  /** Frames a second from the moment when the events were there to the last frame, the median of the waves. */
  readonly perSecond: number;
  /** Of the sending process, µs for each frame, over all waves. */
  readonly cpuMicroseconds: number;
}

/** A subscription is not acknowledged: the first event on each socket says that it is there. */
export async function untilAllHear({ crowd, sockets, send }: Audience): Promise<void> {
  await eventually(
    async () => {
      await send(1);
      return (await crowd.call('countHeard')) === sockets;
    },
    { deadlineMs: 60_000, everyMs: 500, describe: 'all sockets to hear an event' },
  );
}

/**
 * One wave after another. Counted from before the first frame: where no execution is shared, most of the work lies there.
 * @throws Error if a socket has missed an event or got one twice
 */
export async function runWaves(audience: Audience, { events, waves }: WaveKind): Promise<WaveFigures> {
  const { crowd, sockets, senderPid } = audience;
  const durations: number[] = [];
  const clock = setWallClock();
  const meter = startUsageMeter({ sender: () => [senderPid], crowd: () => [crowd.pid] });
  for (let wave = 0; wave < waves; wave++) durations.push(await runWave(audience, { events, clock }));
  const usage = meter.stop();
  const count = waves * events * sockets;
  return {
    perSecond: (events * sockets * 1_000) / median(durations),
    cpuMicroseconds: ((usage.seconds.sender ?? 0) * 1e6) / count,
    count,
    usage,
  };
}

/** @returns ms */
async function runWave(
  { crowd, send, readyAt }: Audience,
  { events, clock }: { readonly events: number; readonly clock: WallClock },
): Promise<number> {
  await crowd.call('begin', events);
  const sentAt = clock.now();
  await send(events);
  await crowd.call('finish');
  const doneAt = clock.now();
  return doneAt - ((await readyAt?.()) ?? sentAt);
}
