import type { Worker } from '../test/support/worker.ts';
import type { Broadcast } from './baselines/broadcast.ts';
import type { EventBroadcast } from './baselines/event-broadcast.ts';
import type { Bed } from './support/bed.ts';
import type { Crowd, CrowdOptions } from './support/crowd-program.ts';
import { untilBeat } from './support/pace.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { median } from './support/statistics.ts';
import { openEmitter } from './support/store.ts';
import { describeCost, startUsageMeter, type Used } from './support/usage.ts';
import { type Audience, untilAllHear, type WaveKind } from './support/waves.ts';

const CLIENTS = 1_000;
/**
 * On both sides a wave begins at a beat. One side has to wait for its events' commit and stamp, by a poll of the outbox; the
 * other, sending without a break, would find its caches and cores warm, which was worth 10 to 40 % of its rate.
 */
const WAVE_EVERY_MS = 200;
const SINGLE = { name: 'one event', events: 1, waves: 30 };
const TEN = { name: 'ten at a time', events: 10, waves: 6 };
const BURST = { name: 'burst of 100', events: 100, waves: 2 };

interface WaveFigures extends Used {
  /** Frames a second from the first to the last, the median of the waves: the way to the first is `stream`'s to measure. */
  readonly perSecond: number;
  /** Of the sending process, µs for each frame, over all waves. */
  readonly cpuMicroseconds: number;
}

type Transport = NonNullable<CrowdOptions['transport']>;
/** A sender without GraphQL behind it. */
type Bare = Worker<Broadcast> | Worker<EventBroadcast>;

/**
 * Events to 1,000 sockets with the same subscription, against a bare `ws` server that sends frames of the same size to as
 * many sockets; one event at a time, ten and a hundred of one transaction. Events are emitted by SQL: the API process does
 * nothing but fan out.
 */
export function benchFanout(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const program = new URL('baselines/broadcast.ts', import.meta.url);
  const kinds = [SINGLE, TEN, BURST];
  return compare(bed, {
    name: 'fanout',
    rounds,
    kinds,
    transport: 'websocket',
    startBare: () => bed.startWorker(program),
  });
}

/** The same over server-sent events, against a bare server that writes each event by one `write` for each response. */
export function benchSse(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const program = new URL('baselines/event-broadcast.ts', import.meta.url);
  const kinds = [SINGLE, TEN];
  return compare(bed, { name: 'sse', rounds, kinds, transport: 'sse', startBare: () => bed.startWorker(program) });
}

interface Comparison {
  readonly name: string;
  readonly rounds: number;
  readonly kinds: readonly WaveKind[];
  readonly transport: Transport;
  readonly startBare: () => Bare;
}

async function compare(bed: Bed, { name, rounds, kinds, transport, startBare }: Comparison): Promise<Row[]> {
  const subject = await openSubject(bed, transport);
  const baseline = await openBaseline(bed, transport, {
    bare: startBare(),
    sample: await subject.crowd.call('sample'),
  });
  const measured = await interleave<readonly WaveFigures[]>({
    name,
    rounds,
    subject: () => runRound(subject, kinds),
    baseline: () => runRound(baseline, kinds),
  });
  return kinds.flatMap((kind, at) => {
    const of = (rows: readonly (readonly WaveFigures[])[]) => rows.flatMap((round) => round[at] ?? []);
    const [ours, bare] = [of(measured.subject), of(measured.baseline)];
    const row = (suffix: string, unit: string, figure: 'perSecond' | 'cpuMicroseconds'): Row => ({
      name: `${name}: ${kind.name}${suffix}`,
      unit,
      subject: ours.map((each) => each[figure]),
      baseline: bare.map((each) => each[figure]),
      limitedBy: describeCost(ours),
    });
    return [row('', 'frames/s', 'perSecond'), row(', CPU of the sender', 'µs/frame', 'cpuMicroseconds')];
  });
}

async function openSubject(bed: Bed, transport: Transport): Promise<Audience> {
  const { api, databaseUrl } = await startCluster(bed);
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  const url = transport === 'sse' ? api.url : api.wsUrl;
  await crowd.call('open', { url, key: api.key, sockets: CLIENTS, transport });
  const { emit } = bed.own(await openEmitter(databaseUrl));
  const audience = { crowd, sockets: CLIENTS, senderPid: api.pid, send: emit };
  await untilAllHear(audience);
  return audience;
}

async function openBaseline(
  bed: Bed,
  transport: Transport,
  { bare, sample }: { readonly bare: Bare; readonly sample: string },
): Promise<Audience> {
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  await crowd.call('open', { url: await bare.call('listen'), key: 'none', sockets: CLIENTS, transport });
  const send = (events: number) => bare.call('broadcast', sample, events);
  const audience = { crowd, sockets: CLIENTS, senderPid: bare.pid, send };
  await untilAllHear(audience);
  return audience;
}

async function runRound(audience: Audience, kinds: readonly WaveKind[]): Promise<readonly WaveFigures[]> {
  const figures: WaveFigures[] = [];
  for (const kind of kinds) figures.push(await runWaves(audience, kind));
  return figures;
}

async function runWaves({ crowd, senderPid, send }: Audience, { events, waves }: WaveKind): Promise<WaveFigures> {
  const rates: number[] = [];
  const meter = startUsageMeter({ sender: () => [senderPid], crowd: () => [crowd.pid] });
  for (let wave = 0; wave < waves; wave++) {
    await untilBeat(WAVE_EVERY_MS);
    await crowd.call('begin', events);
    await send(events);
    const { firstAt, lastAt, frames } = await crowd.call('finish');
    rates.push((frames * 1_000) / (lastAt - firstAt));
  }
  const usage = meter.stop();
  const count = waves * events * CLIENTS;
  return { perSecond: median(rates), cpuMicroseconds: ((usage.seconds.sender ?? 0) * 1e6) / count, count, usage };
}
