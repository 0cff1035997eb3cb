import type { Stock, StockEvent } from './baselines/stock.ts';
import type { Bed } from './support/bed.ts';
import type { ChangeLoad } from './support/change-program.ts';
import { readLastStamp } from './support/commits.ts';
import type { Crowd, CrowdOptions } from './support/crowd-program.ts';
import type { Row } from './support/report.ts';
import { interleave, type Measured } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { insertProducts } from './support/store.ts';
import { describeCost } from './support/usage.ts';
import { type Audience, runWaves, untilAllHear, type WaveFigures } from './support/waves.ts';

const SOCKETS = 1_000;
const KINDS = [
  { name: 'one event', events: 1, waves: 10 },
  { name: 'ten at a time', events: 10, waves: 4 },
] as const;
const MOST_EVENTS = Math.max(...KINDS.map(({ events }) => events));

/** What each kind of wave has shown, in the order of `KINDS`. */
type Round = readonly WaveFigures[];

/**
 * Events to 1,000 sockets with the same subscription, against GraphQL Yoga's pub/sub over graphql-ws as documented, with the
 * same clients and the same document; one event at a time, and ten of one transaction.
 */
export function benchStock(bed: Bed, options: { readonly rounds: number }): Promise<Row[]> {
  return compare(bed, { ...options, name: 'stock', documents: 'one' });
}

/** The same where each socket has a document of its own, so that no execution can be shared. */
export function benchDocuments(bed: Bed, options: { readonly rounds: number }): Promise<Row[]> {
  return compare(bed, { ...options, name: 'documents', documents: 'each' });
}

interface Comparison extends Required<Pick<CrowdOptions, 'documents'>> {
  readonly name: string;
  readonly rounds: number;
}

async function compare(bed: Bed, { name, rounds, documents }: Comparison): Promise<Row[]> {
  const subject = await openSubject(bed, documents);
  const baseline = await openBaseline(bed, documents, await subject.crowd.call('sample'));
  const measured = await interleave<Round>({
    name,
    rounds,
    subject: () => runRound(subject),
    baseline: () => runRound(baseline),
  });
  return KINDS.flatMap((kind, at) => {
    const of = (rounds: readonly Round[]) => rounds.flatMap((round) => round[at] ?? []);
    return rowsOf(`${name}: ${kind.name}`, { subject: of(measured.subject), baseline: of(measured.baseline) });
  });
}

function rowsOf(name: string, { subject, baseline }: Measured<WaveFigures>): Row[] {
  const limitedBy = describeCost(subject);
  const row = (suffix: string, unit: string, figure: 'perSecond' | 'cpuMicroseconds'): Row => ({
    name: `${name}${suffix}`,
    unit,
    subject: subject.map((each) => each[figure]),
    baseline: baseline.map((each) => each[figure]),
    limitedBy,
  });
  return [row('', 'frames/s', 'perSecond'), row(', CPU of the sender', 'µs/frame', 'cpuMicroseconds')];
}

async function openSubject(bed: Bed, documents: Comparison['documents']): Promise<Audience> {
  const { api, env, databaseUrl } = await startCluster(bed);
  const productIds = await insertProducts(databaseUrl, MOST_EVENTS);
  const load = bed.startWorker<ChangeLoad>(new URL('support/change-program.ts', import.meta.url));
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  await load.call('open', env);
  await crowd.call('open', { url: api.wsUrl, key: api.key, sockets: SOCKETS, documents });
  const audience: Audience = {
    crowd,
    sockets: SOCKETS,
    senderPid: api.pid,
    send: (events) => load.call('adjustTogether', productIds.slice(0, events)),
    readyAt: () => readLastStamp(databaseUrl),
  };
  await untilAllHear(audience);
  return audience;
}

/** @param sample a frame of the other side, whose event is sent */
async function openBaseline(bed: Bed, documents: Comparison['documents'], sample: string): Promise<Audience> {
  const server = bed.startWorker<Stock>(new URL('baselines/stock.ts', import.meta.url));
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  await crowd.call('open', { url: await server.call('listen'), key: 'none', sockets: SOCKETS, documents });
  const event = readEvent(sample);
  const send = (events: number) => server.call('publish', event, events);
  const audience = { crowd, sockets: SOCKETS, senderPid: server.pid, send };
  await untilAllHear(audience);
  return audience;
}

/** Where the document has another name for it, `stock` is not in the frame. */
function readEvent(frame: string): StockEvent {
  return { stock: 1_001, ...JSON.parse(frame).payload.data.events };
}

async function runRound(audience: Audience): Promise<Round> {
  const figures: WaveFigures[] = [];
  for (const kind of KINDS) figures.push(await runWaves(audience, kind));
  return figures;
}
