import { eventually } from '../test/support/eventually.ts';
import type { Broadcast } from './baselines/broadcast.ts';
import type { Bed } from './support/bed.ts';
import type { Crowd } from './support/crowd-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { median } from './support/statistics.ts';
import { emitStockChanges } from './support/store.ts';
import { describeCost, startUsageMeter, type Used } from './support/usage.ts';
import type { Worker } from './support/worker.ts';

const SOCKETS = 1_000;
/** Waves of one round: how many events each brings to each socket, and how many waves there are. */
const SINGLE = { name: 'one event', events: 1, waves: 20 } as const;
const BURST = { name: 'burst of 100', events: 100, waves: 2 } as const;

interface Round {
  readonly single: WaveFigures;
  readonly burst: WaveFigures;
}

interface WaveFigures extends Used {
  /** Frames a second from the first to the last, the median of the waves. */
  readonly perSecond: number;
  /** Of the sending process, µs for each frame, over all waves. */
  readonly cpuMicroseconds: number;
}

/** One side: who listens, who sends, and what makes it send. */
interface Side {
  readonly crowd: Worker<Crowd>;
  readonly senderPid: number;
  send(events: number): Promise<void>;
}

/**
 * Events to 1,000 sockets with the same subscription, against a bare `ws` server that sends frames of the same size to as
 * many sockets; one event at a time, and a hundred of one transaction. Events are emitted by SQL: the API process does
 * nothing but fan out.
 */
export async function benchFanout(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const subject = await openSubject(bed);
  const baseline = await openBaseline(bed, await subject.crowd.call('sample'));
  const measured = await interleave<Round>({
    name: 'fanout',
    rounds,
    subject: () => runRound(subject),
    baseline: () => runRound(baseline),
  });
  return [SINGLE, BURST].flatMap((kind) => {
    const figures = (rows: readonly Round[], figure: 'perSecond' | 'cpuMicroseconds') =>
      rows.map((round) => (kind === SINGLE ? round.single : round.burst)[figure]);
    const row = (name: string, unit: string, figure: 'perSecond' | 'cpuMicroseconds'): Row => ({
      name: `fanout: ${kind.name}${name}`,
      unit,
      subject: figures(measured.subject, figure),
      baseline: figures(measured.baseline, figure),
      limitedBy: describeCost(measured.subject.map((round) => (kind === SINGLE ? round.single : round.burst))),
    });
    return [row('', 'frames/s', 'perSecond'), row(', CPU of the sender', 'µs/frame', 'cpuMicroseconds')];
  });
}

async function openSubject(bed: Bed): Promise<Side> {
  const { api, databaseUrl } = await startCluster(bed);
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  await crowd.call('open', { url: api.wsUrl, key: api.key, sockets: SOCKETS });
  const send = (events: number) => emitStockChanges(databaseUrl, events);
  await untilAllHear(crowd, () => send(1));
  return { crowd, senderPid: api.pid, send };
}

async function openBaseline(bed: Bed, sample: string): Promise<Side> {
  const server = bed.startWorker<Broadcast>(new URL('baselines/broadcast.ts', import.meta.url));
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  await crowd.call('open', { url: await server.call('listen'), key: 'none', sockets: SOCKETS });
  const send = (events: number) => server.call('broadcast', sample, events);
  await untilAllHear(crowd, () => send(1));
  return { crowd, senderPid: server.pid, send };
}

/** A subscription is not acknowledged: the first event on each socket says that it is there. */
async function untilAllHear(crowd: Worker<Crowd>, send: () => Promise<void>): Promise<void> {
  await eventually(
    async () => {
      await send();
      return (await crowd.call('countHeard')) === SOCKETS;
    },
    { deadlineMs: 60_000, everyMs: 500, describe: 'all sockets to hear an event' },
  );
}

async function runRound(side: Side): Promise<Round> {
  return { single: await runWaves(side, SINGLE), burst: await runWaves(side, BURST) };
}

async function runWaves(
  { crowd, senderPid, send }: Side,
  { events, waves }: { readonly events: number; readonly waves: number },
): Promise<WaveFigures> {
  const rates: number[] = [];
  const meter = startUsageMeter({ sender: () => [senderPid], crowd: () => [crowd.pid] });
  for (let wave = 0; wave < waves; wave++) {
    await crowd.call('begin', events);
    await send(events);
    const { firstAt, lastAt, frames } = await crowd.call('finish');
    rates.push((frames * 1_000) / (lastAt - firstAt));
  }
  const usage = meter.stop();
  const count = waves * events * SOCKETS;
  return { perSecond: median(rates), cpuMicroseconds: ((usage.seconds.sender ?? 0) * 1e6) / count, count, usage };
}
