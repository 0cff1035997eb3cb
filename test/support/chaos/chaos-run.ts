import { eventually } from '../eventually.ts';
import { readHead } from '../kill/log.ts';
import { type NaiveBus, openNaiveBus } from '../kill/naive-bus.ts';
import { seeded } from '../kill-embedded.ts';
import { withClient } from '../postgres-client.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { type Crowd, openCrowd } from './crowd.ts';
import { isWanted, type Wanted } from './filters.ts';
import { createLedger, type Ledger } from './ledger.ts';
import { type NaiveReader, openNaiveReader } from './naive-reader.ts';
import { createPace, type Pace } from './pace.ts';
import { openPullConsumer, type PullConsumer } from './pull-consumer.ts';
import type { Progress, ReaderPlan } from './reader.ts';
import type { LoggedEvent, Record } from './record.ts';
import type { Strike } from './strikes.ts';
import { writeAll } from './writers.ts';

export interface ChaosOptions {
  readonly seed: number;
  /** Events in all, without the marks at the end. */
  readonly events: number;
  /** At most. */
  readonly eventsPerSecond: number;
  readonly writers: number;
  readonly readers: readonly ReaderPlan[];
  /** Processes for the readers. */
  readonly processes: number;
  readonly consumers: readonly Wanted[];
  /** In order, spread over the load; each begins when the one before is over. */
  readonly strikes: readonly Strike[];
}

/** What somebody got, and what there was to get. */
export interface Outcome {
  readonly name: string;
  readonly record: Record;
  readonly wanted: Wanted;
  readonly lastFault: string | undefined;
}

export interface ChaosRun {
  readonly ledger: Ledger;
  /** As the database has it. */
  readonly log: readonly LoggedEvent[];
  /** Those that must be whole. */
  readonly outcomes: readonly Outcome[];
  /** Readers that subscribe again without a cursor, and with their first: must lose and repeat. */
  readonly careless: readonly (Outcome & { readonly resume: ReaderPlan['resume'] })[];
  /** Ids that the other controls got: by serial id, and by the bus alone. */
  readonly controls: Readonly<globalThis.Record<string, ReadonlySet<string>>>;
  /** In one line: events, kills, reconnects, duration. */
  readonly figures: string;
}

/** Loads a cluster, breaks it piece by piece, and gives what everybody saw when all has calmed down. */
export async function runChaos(options: ChaosOptions): Promise<ChaosRun> {
  const startedAt = performance.now();
  await using opened = new AsyncDisposableStack();
  const cluster = await startCluster();
  opened.defer(cluster.close);
  const stage = await openStage(cluster, options, opened);
  const loadedAt = performance.now();
  await Promise.all([load(stage, options), strikeAll(stage, options)]);
  const calmAt = performance.now();
  await catchUp(stage);
  await mark(stage);
  const log = await catchUp(stage);
  const progress = await stage.crowd.progress();
  const caughtUpAt = performance.now();
  const outcomes = await readOutcomes(stage, progress);
  const figures = describe({ options, log, progress, stage }, [startedAt, loadedAt, calmAt, caughtUpAt]);
  return { ledger: stage.ledger, log, ...outcomes, figures };
}

interface Stage {
  readonly cluster: Cluster;
  readonly crowd: Crowd;
  readonly consumers: readonly PullConsumer[];
  readonly bus: NaiveBus;
  readonly serial: NaiveReader;
  readonly pace: Pace;
  readonly ledger: Ledger;
}

async function openStage(
  cluster: Cluster,
  { events, eventsPerSecond, readers, processes, consumers }: ChaosOptions,
  opened: AsyncDisposableStack,
): Promise<Stage> {
  const { urls, key, databaseUrl, redis } = cluster;
  const after = await readHead({ url: urls[0] ?? '', key });
  const crowd = await openCrowd(readers, { urls, key, after, processes });
  opened.defer(crowd.close);
  const polling: PullConsumer[] = [];
  for (const [at, wanted] of consumers.entries()) {
    const consumer = await openPullConsumer({ urls, key, name: `chaos-${at}`, wanted, after });
    opened.defer(consumer.close);
    polling.push(consumer);
  }
  const bus = await openNaiveBus(redis.url);
  opened.defer(bus.close);
  const serial = await openNaiveReader(databaseUrl);
  opened.defer(serial.close);
  const pace = createPace({ total: events, perSecond: eventsPerSecond });
  return { cluster, crowd, consumers: polling, bus, serial, pace, ledger: createLedger() };
}

function load({ cluster, pace, ledger }: Stage, { writers, seed }: ChaosOptions): Promise<void> {
  const { databaseUrl, urls, key } = cluster;
  return writeAll({ databaseUrl, urls, key, pace, ledger, random: seeded(seed), count: writers });
}

/** Events that writers may hold back still when they have leave for them: long transactions, unanswered calls. */
const UNDER_WAY = 25;

/** The load goes on through each strike, but not past the next: none of them hits an idle cluster. */
async function strikeAll({ cluster, pace }: Stage, { events, strikes }: ChaosOptions): Promise<void> {
  const mark = (at: number) => Math.floor((events * (at + 1)) / (strikes.length + 1));
  try {
    for (const [at, strike] of strikes.entries()) {
      pace.allow(mark(at));
      await pace.reaches(mark(at) - UNDER_WAY);
      pace.allow(mark(at + 1));
      await strike.run(cluster);
    }
    pace.allow(events);
  } catch (error) {
    pace.end();
    throw error;
  }
}

const MARKS_AT_MOST = 20;
const HEARD_WITHIN_MS = 3_000;
const MARK = "select fanfare.emit('acc_default', 'customer.created', $1, $2) as id";

/** Emits event by event until each control has heard one: it listens still, so what it lacks it has lost. */
async function mark(stage: Stage): Promise<void> {
  const { cluster, ledger } = stage;
  const before = await cluster.head();
  const deaf = new Set(['bus', 'serial', 'without cursor']);
  await withClient(cluster.databaseUrl, async (client) => {
    for (let at = 0; deaf.size > 0; at += 1) {
      if (at === MARKS_AT_MOST) throw new Error(`expected every control to listen at the end, ${[...deaf]} did not`);
      const customer = { customerId: `cust_mark${at}`, version: 1, name: 'Mark', email: null, country: null };
      const { rows } = await client.query<{ id: string }>(MARK, [customer.customerId, JSON.stringify({ customer })]);
      const id = rows[0]?.id ?? '';
      ledger.emitted.add(id);
      const isHeard = async () => {
        for (const name of await whoHeard(stage, { id, before })) deaf.delete(name);
        return deaf.size === 0;
      };
      await eventually(isHeard, { deadlineMs: HEARD_WITHIN_MS, everyMs: 50 }).catch(() => {}); // the next mark
    }
  });
}

async function whoHeard(
  { crowd, bus, serial }: Stage,
  { id, before }: { readonly id: string; readonly before: number },
): Promise<string[]> {
  const careless = (await crowd.progress()).filter(({ resume }) => resume === 'none');
  return [
    ...(bus.ids.has(id) ? ['bus'] : []),
    ...(serial.ids.has(id) ? ['serial'] : []),
    ...(careless.every(({ last }) => last > before) ? ['without cursor'] : []),
  ];
}

function lastFor(log: readonly LoggedEvent[], wanted: Wanted): number {
  return log.findLast(({ name }) => isWanted(wanted, name))?.position ?? 0;
}

const CONSUMED_WITHIN_MS = 60_000;

/** Waits until all is stamped and everybody has it. @returns the log then */
async function catchUp({ cluster, crowd, consumers }: Stage): Promise<readonly LoggedEvent[]> {
  await eventually(async () => (await cluster.unstamped()) === 0, { describe: 'the rest to be stamped' });
  const log = await cluster.readLog();
  const ends = { all: lastFor(log, 'all'), stock: lastFor(log, 'stock'), rare: lastFor(log, 'rare') };
  await crowd.reach(({ wanted }) => ends[wanted]);
  const haveAll = () => consumers.every(({ wanted, last }) => last >= ends[wanted]);
  await eventually(haveAll, { deadlineMs: CONSUMED_WITHIN_MS, describe: 'the consumers' }).catch(() => {}); // their records show it
  return log;
}

async function readOutcomes(
  { crowd, consumers, bus, serial }: Stage,
  progress: readonly Progress[],
): Promise<Pick<ChaosRun, 'outcomes' | 'careless' | 'controls'>> {
  const records = await crowd.records();
  const readers = progress.map((each, at) => {
    const record = records[at];
    if (record === undefined) throw new Error(`there is no record of ${each.name}`);
    return { ...each, record };
  });
  const polled = consumers.map(({ wanted, lastFault, record }, at) => {
    return { name: `consumer ${at}`, wanted, lastFault, record: record() };
  });
  return {
    outcomes: [...readers.filter(({ resume }) => resume === 'last'), ...polled],
    careless: readers.filter(({ resume }) => resume !== 'last'),
    controls: { 'by serial id': new Set(serial.ids), 'the bus alone': new Set(bus.ids) },
  };
}

interface Facts {
  readonly options: ChaosOptions;
  readonly log: readonly LoggedEvent[];
  readonly progress: readonly Progress[];
  readonly stage: Stage;
}

function describe(
  { options, log, progress, stage }: Facts,
  [started, loaded, calm, caughtUp]: readonly number[],
): string {
  const seconds = (from = 0, to = 0) => `${((to - from) / 1_000).toFixed(1)} s`;
  const counts = Map.groupBy(options.strikes, ({ name }) => name);
  const sum = (of: (each: Progress) => number) => progress.reduce((total, each) => total + of(each), 0);
  return [
    `${log.length} events by ${options.writers} writers`,
    ...[...counts].map(([name, each]) => `${name} ${each.length} times`),
    `${progress.length} readers, ${sum(({ breaks }) => breaks)} reconnects, ${sum(({ count }) => count)} events received, ${sum(({ checkpoints }) => checkpoints)} checkpoints`,
    `${stage.consumers.length} consumers, ${stage.consumers.reduce((total, { faults }) => total + faults, 0)} unanswered calls`,
    `load ${seconds(loaded, calm)}, caught up ${seconds(calm, caughtUp)} later, ${seconds(started, caughtUp)} in all`,
  ].join('; ');
}
