import { setTimeout as wait } from 'node:timers/promises';
import { sql } from 'kysely';
import { eventually } from '../support/eventually.ts';
import { seeded } from '../support/kill-embedded.ts';
import { openClaimLog } from './claim-log.ts';
import { type DoneDelivery, retakesOf } from './kill-check.ts';
import { openNoteLog } from './note-log.ts';
import { type OrphanEvidence, orphansOf } from './orphans.ts';
import { openRequestBook, type RequestBook } from './request-book.ts';
import type { WebhookEngine } from './webhook-engine.ts';
import { databaseUrlOf, type FleetWorker, openFleet, type WorkerSettings } from './worker-fleet.ts';

export interface StormOptions {
  readonly seed: number;
  readonly kills: number;
  readonly events: number;
  /** The last of them never answers, until the storm is over. */
  readonly webhooks: number;
  /** How many of the webhooks ask for an event. */
  readonly fanout: number;
  readonly workers: number;
  readonly settings: WorkerSettings & { readonly deadlineMs: number };
}

export interface Storm {
  readonly evidence: OrphanEvidence;
  /** In one line. */
  readonly figures: string;
}

interface Scene {
  readonly engine: WebhookEngine;
  readonly accountId: string;
  readonly book: RequestBook;
  readonly options: StormOptions;
}

const LONGEST_ANSWER_MS = 20;
const A_DAY_MS = 86_400_000;
/** How long the receivers may hear nothing before a kill that waits for them comes all the same. */
const IDLE_MS = 500;
/** How long no delivery may end while some are open: more than the longest hold, and an attempt. */
const STUCK_MS = 180_000;
const ENDS_WITHIN_MS = 3_600_000;

/**
 * Writes events in as many steps as there are kills; in each, when a random number of requests more has come in, a worker is
 * killed and the next one started. When all others have what they asked for, the webhook that hangs begins to answer.
 */
export async function runStorm(engine: WebhookEngine, options: StormOptions): Promise<Storm> {
  const beganAtMs = Date.now();
  const random = seeded(options.seed);
  await using opened = new AsyncDisposableStack();
  const calm = Promise.withResolvers<void>();
  const hangingPath = hangingPathOf(options);
  const book = await openRequestBook(async ({ path }) => {
    await (path === hangingPath ? calm.promise : wait(random() * LONGEST_ANSWER_MS));
    return 200;
  });
  opened.defer(book.close);
  const scene = { engine, accountId: await engine.addAccount(), book, options };
  const webhookIds = await createWebhooks(scene);

  const claimLog = await openClaimLog(engine.services.database);
  opened.defer(claimLog.close);

  const { expected, startedAtMs, killedAtMs, close } = await loadAndKill(scene, random);
  opened.defer(close);
  await untilDone(scene, webhookIds.slice(0, -1));
  const stormMs = Date.now() - beganAtMs;
  calm.resolve();
  await releaseHeld(scene, webhookIds);
  await untilDone(scene, webhookIds);

  const evidence = {
    requests: book.requests,
    claims: await claimLog.read(),
    startedAtMs,
    killedAtMs,
    expected,
    done: await readDone(scene),
    deadlineMs: options.settings.deadlineMs,
  };
  return { evidence, figures: describeStorm(evidence, { hangingPath, stormMs, wholeMs: Date.now() - beganAtMs }) };
}

function hangingPathOf({ webhooks }: StormOptions): string {
  return `/${webhooks - 1}`;
}

/** An event of number n is about subject n modulo their number, and these webhooks ask for it. */
function pathsOf(event: number, { webhooks, fanout }: StormOptions): readonly string[] {
  return Array.from({ length: fanout }, (_, at) => `/${(event + at) % webhooks}`);
}

async function createWebhooks({ engine, accountId, book, options }: Scene): Promise<readonly string[]> {
  const { webhooks, fanout } = options;
  const ids: string[] = [];
  for (let at = 0; at < webhooks; at++) {
    const subjects = Array.from({ length: fanout }, (_, back) => `note_${(at - back + webhooks) % webhooks}`);
    const query = `subscription { noteWritten(filter: { subjects: ${JSON.stringify(subjects)} }) { id } }`;
    ids.push((await engine.createWebhook({ url: `${book.url}/${at}`, query }, { accountId })).id);
  }
  return ids;
}

async function loadAndKill({ engine, accountId, book, options }: Scene, random: () => number) {
  const { events, kills, webhooks, workers } = options;
  const log = openNoteLog(engine.services);
  const fleet = openFleet(await databaseUrlOf(engine), { ...options.settings, isQuiet: true });
  const startedAtMs = new Map<string, number>();
  const killedAtMs = new Map<string, number>();
  const expected = new Set<string>();
  const running = Array.from({ length: workers }, launch);
  await Promise.all(running.map((worker) => worker.started()));
  const stepSize = Math.ceil(events / kills);
  for (let from = 0; from < events; from += stepSize) {
    await write(from, Math.min(from + stepSize, events));
    // of the first half, so that some are under way
    await untilMore(book, Math.floor((random() * stepSize * options.fanout) / 2));
    await killOne(busyOne() ?? Math.floor(random() * workers));
  }
  const close = async () => {
    await fleet.close();
    await log.close();
  };
  return { startedAtMs, killedAtMs, expected, close };

  function launch(): FleetWorker {
    const worker = fleet.launch();
    // one that does not start fails the test when it is to be killed, or at the end
    void worker.started().then(
      () => startedAtMs.set(worker.name, Date.now()),
      () => {},
    );
    return worker;
  }

  async function write(from: number, to: number): Promise<void> {
    const numbers = Array.from({ length: to - from }, (_, at) => from + at);
    const notes = numbers.map((n) => ({ subjectId: `note_${n % webhooks}`, text: `${n}` }));
    const ids = await log.write(accountId, notes);
    for (const [at, n] of numbers.entries()) for (const path of pathsOf(n, options)) expected.add(`${path} ${ids[at]}`);
  }

  /** One that waits for an answer, which will come. */
  function busyOne(): number | undefined {
    const names = running.map(({ name }) => name);
    const under = book.requests.findLast(
      ({ path, status, sender }) => status === undefined && path !== hangingPathOf(options) && names.includes(sender),
    );
    return under && names.indexOf(under.sender);
  }

  async function killOne(at: number): Promise<void> {
    await running[at]?.started();
    if (running[at] !== undefined) killedAtMs.set(running[at].name, Date.now());
    await running[at]?.kill();
    running[at] = launch();
  }
}

/** Waits until so many more have come in, or none comes. */
async function untilMore({ requests }: RequestBook, count: number): Promise<void> {
  const wanted = requests.length + count;
  let last = { count: requests.length, atMs: Date.now() };
  await eventually(() => {
    if (requests.length !== last.count) last = { count: requests.length, atMs: Date.now() };
    return requests.length >= wanted || Date.now() - last.atMs > IDLE_MS;
  });
}

/** Waits until these webhooks have no open delivery, as long as any end: of some there are half a million. */
async function untilDone(scene: Scene, webhookIds: readonly string[]): Promise<void> {
  let last = { open: Number.POSITIVE_INFINITY, atMs: Date.now() };
  await eventually(
    async () => {
      const open = await countOpen(scene, webhookIds);
      if (open < last.open) last = { open, atMs: Date.now() };
      return open === 0 || Date.now() - last.atMs > STUCK_MS;
    },
    // seldom, since a count of so many costs what the workers need
    { deadlineMs: ENDS_WITHIN_MS, everyMs: 500, describe: 'all deliveries to end' },
  );
  if (last.open > 0) throw new Error(`${last.open} deliveries are open, and none has ended for ${STUCK_MS} ms`);
}

async function countOpen({ engine }: Scene, webhookIds: readonly string[]): Promise<number> {
  const { rows } = await sql<{ open: number }>`
    select count(*)::int as open from fanfare.delivery where webhook_id = any(${webhookIds}::text[])
  `.execute(engine.services.database.db);
  return rows[0]?.open ?? 0;
}

/** What has failed need not wait for its time. */
async function releaseHeld({ engine, accountId }: Scene, webhookIds: readonly string[]): Promise<void> {
  const variables = { id: webhookIds.at(-1) };
  await engine.advanceClock(A_DAY_MS);
  await engine.run('mutation ($id: ID!) { webhookResume(id: $id) { __typename } }', { accountId, variables });
}

async function readDone({ engine, accountId }: Scene): Promise<DoneDelivery[]> {
  const { rows } = await sql<DoneDelivery>`
    select id, status, (extract(epoch from finished_at) * 1000)::float8 as "finishedAtMs"
    from fanfare.delivery_done where account_id = ${accountId}
  `.execute(engine.services.database.db);
  return rows;
}

interface Course {
  /** What is held there, since it never answers, waits for other reasons. */
  readonly hangingPath: string;
  readonly stormMs: number;
  readonly wholeMs: number;
}

function describeStorm(evidence: OrphanEvidence, { hangingPath, stormMs, wholeMs }: Course): string {
  const isCounted = ({ path }: { readonly path: string }) => path !== hangingPath;
  const sent = retakesOf(evidence).filter(isCounted);
  const orphans = orphansOf(evidence).filter(isCounted);
  return [
    `${evidence.expected.size} deliveries, ${evidence.requests.length} requests, ${evidence.killedAtMs.size} kills`,
    `${orphans.length} orphans claimed again after ${describeRange(orphans.map((each) => each.claimedAfterMs))}`,
    `of which a worker lived for ${describeRange(orphans.map((each) => each.livedMs))}`,
    `sent again after ${describeRange(sent.map((each) => each.afterMs))}`,
    `ended after ${describeRange(orphans.map((each) => each.endedAfterMs))}`,
    `${Math.round(stormMs / 1_000)} s, ${Math.round(wholeMs / 1_000)} s with the one that hung`,
  ].join('; ');
}

function describeRange(times: readonly number[]): string {
  const sorted = times.map(Math.round).sort((a, b) => a - b);
  const late = sorted.filter((ms) => ms > 5_000).length;
  return `${sorted[Math.floor(sorted.length / 2)]} ms (median) to ${sorted.at(-1)} ms, ${late} over 5 s`;
}
