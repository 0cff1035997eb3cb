import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runReplays } from '../../src/webhooks/replayer.ts';
import { eventually } from '../support/eventually.ts';
import { fillLog, openSink, readPages, readRun, readSent, type Sink, standIn } from './replay-million.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

/**
 * Of the replay. What is real of it: the replay, with its steps, pace, births, counts, cancel and resume; and of its deliveries the first
 * and the last, SENT together, each signed and sent by a worker over a socket. The others are recorded as arrived by a statement, without
 * a request, soon after they are born; and the log is filled, not captured. A million took 9 minutes on two busy cores (2026-11-22).
 * With FANFARE_REPLAY_SENT=1000000 all are sent: 1,400 a second on two cores of which others take little, 700 of which they take most.
 */
const DELIVERIES = Number(process.env.FANFARE_REPLAY_DELIVERIES ?? 1_000_000);
const SENT = Math.min(Number(process.env.FANFARE_REPLAY_SENT ?? 40_000), DELIVERIES);
/** One in so many is refused the first time. */
const REFUSES = 500;
const ONE_RUN_MS = 3_600_000;
const SLICE = Math.max(Math.ceil(DELIVERIES / 10), 1);

const COUNTS = 'status reason total looked created pending succeeded exhausted cancelled';

setFlagsFromString('--expose-gc');
/** Without it, what waits for the collector would count as held. */
const collect = runInNewContext('gc') as () => void;

/** In MiB. */
function measureHeld(): number {
  collect();
  return process.memoryUsage().heapUsed / 1_048_576;
}

interface Counts {
  readonly status: string;
  readonly looked: number;
  readonly created: number;
  readonly pending: number;
  readonly succeeded: number;
  readonly cancelled: number;
}

describe(`a replay of ${DELIVERIES} deliveries, of which ${SENT} are really sent`, () => {
  let engine: WebhookEngine;
  let sink: Sink;
  let webhookId: string;
  const report: Record<string, number | readonly number[]> = {};
  const db = () => engine.services.database.db;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    report.fill_s = (await timed(() => fillLog(db(), DELIVERIES))) / 1_000;
    sink = await openSink(engine, { positions: DELIVERIES, refuses: REFUSES });
    const webhook = { url: sink.url, eventTypes: ['NOTE_WRITTEN'], maxInFlight: 50, retry: { delays: [1, 1, 1] } };
    webhookId = (await engine.createWebhook(webhook)).id;
  }, ONE_RUN_MS);
  afterAll(async () => {
    process.stdout.write(`${JSON.stringify({ deliveries: DELIVERIES, sent: SENT, ...report })}\n`);
    await sink?.close();
    await engine?.close();
  });

  async function begin(input: object): Promise<string> {
    const startAfter = engine.services.cursors.encode('acc_default', { kind: 'position', position: 0 });
    const { deliveriesReplay } = await engine.run<{ deliveriesReplay: { replay: { id: string } } }>(
      'mutation ($input: DeliveriesReplayInput!) { deliveriesReplay(input: $input) { ... on DeliveriesReplaySuccess { replay { id } } } }',
      { variables: { input: { webhookId, startAfter, ...input } } },
    );
    return deliveriesReplay.replay.id;
  }

  async function show(id: string): Promise<Counts> {
    const source = `query ($id: ID!) { replay(id: $id) { ${COUNTS} } }`;
    return (await engine.run<{ replay: Counts }>(source, { variables: { id } })).replay;
  }

  async function change(name: 'Cancel' | 'Resume', id: string): Promise<Counts> {
    const field = `DeliveriesReplay${name}`;
    const source = `mutation ($id: ID!) { it: d${field.slice(1)}(id: $id) { ... on ${field}Success { replay { ${COUNTS} } } } }`;
    return (await engine.run<{ it: { replay: Counts } }>(source, { variables: { id } })).it.replay;
  }

  /** Steps replays as a process does, and has what is born sent by a worker or recorded by the stand-in, until `isOver`. */
  async function go(
    id: string,
    by: 'worker' | 'stand-in',
    isOver: (counts: Counts) => boolean | Promise<boolean>,
  ): Promise<void> {
    const ending = new AbortController();
    const worker = engine.createWorker({ observe: () => {} });
    let standingIn = by === 'worker' ? Promise.resolve(0) : standIn(db(), id);
    const onBorn = () => {
      if (by === 'worker') worker.wake();
      else standingIn = standingIn.then(() => standIn(db(), id));
    };
    const running = [runReplays({ engine: engine.services, observe: () => {}, onBorn }, ending.signal)];
    if (by === 'worker') running.push(worker.run(ending.signal));
    try {
      await eventually(async () => isOver(await show(id)), { deadlineMs: ONE_RUN_MS, everyMs: 250 });
    } finally {
      ending.abort();
      await Promise.all(running);
      await standingIn;
    }
  }

  /** Cancels and resumes it, which costs what is open, however much it has sent. */
  async function cancelAndResume(id: string): Promise<void> {
    const before = await show(id);
    let after = before;
    report[`cancel_ms_at_${before.looked}`] = await timed(async () => {
      after = await change('Cancel', id);
    });
    expect(after).toMatchObject({
      status: 'CANCELLED',
      created: before.created,
      pending: 0,
      cancelled: before.pending,
    });
    report[`resume_ms_at_${before.looked}`] = await timed(async () => {
      after = await change('Resume', id);
    });
    expect(after).toMatchObject({ status: 'RUNNING', created: before.created, pending: before.pending, cancelled: 0 });
  }

  it(
    'sends each event once, oldest first, with few open ones, in flat memory; is cancelled and resumed; and costs at its end what it did at its beginning',
    async () => {
      const id = await begin({ missing: true });
      const seen = { open: 0, heapMb: [] as number[], shownMs: [] as number[] };
      const watch = (isOver: (counts: Counts) => boolean) => async (counts: Counts) => {
        seen.open = Math.max(seen.open, counts.pending);
        seen.heapMb.push(measureHeld());
        seen.shownMs.push(await timed(() => show(id)));
        return isOver(counts);
      };
      report.first_s =
        (await timed(() =>
          go(
            id,
            'worker',
            watch(({ succeeded }) => succeeded >= SENT / 2),
          ),
        )) / 1_000;
      await cancelAndResume(id);

      // pages for each birth, the stand-in's part included, of one tenth after the other
      const slicePages: number[] = [];
      let slice = { created: (await show(id)).created, pages: await readPages(db()) };
      const standingIn = () =>
        go(id, 'stand-in', async (counts) => {
          if (counts.created >= slice.created + SLICE) {
            const pages = await readPages(db());
            slicePages.push((pages - slice.pages) / (counts.created - slice.created));
            slice = { created: counts.created, pages };
          }
          return counts.created >= DELIVERIES - SENT / 2;
        });
      if (SENT < DELIVERIES) report.stood_in_s = (await timed(standingIn)) / 1_000;
      await cancelAndResume(id);
      report.last_s =
        (await timed(() =>
          go(
            id,
            'worker',
            watch(({ status }) => status === 'DONE'),
          ),
        )) / 1_000;

      const quarter = Math.max(seen.heapMb.length >> 2, 1);
      report.most_open = seen.open;
      const growthMb = Math.min(...seen.heapMb.slice(-quarter)) - Math.min(...seen.heapMb.slice(0, quarter));
      report.growth_mb = growthMb;
      report.shown_ms = seen.shownMs.sort((a, b) => a - b)[seen.shownMs.length >> 1] ?? 0;
      report.pages = slicePages.map(Math.round);

      expect(await show(id)).toMatchObject({ created: DELIVERIES, succeeded: DELIVERIES, pending: 0, cancelled: 0 });
      const whole = {
        deliveries: DELIVERIES,
        positions: DELIVERIES,
        succeeded: DELIVERIES,
        first: 1,
        last: DELIVERIES,
      };
      expect(await readRun(db(), id)).toEqual({ ...whole, late: 0 });
      const sent = await readSent(db(), id);
      expect(sent.length).toBeGreaterThanOrEqual(SENT - 2_000);
      expect(sent.every(({ position, attempts }) => sink.positions[position] === attempts)).toBe(true);
      expect(sent.every(({ position, attempts }) => attempts === (position % REFUSES === 0 ? 2 : 1))).toBe(true);
      expect(sink.requests()).toBe(sent.reduce((sum, { attempts }) => sum + attempts, 0));
      // those that wait for their second attempt beside those that wait for their first
      expect(seen.open).toBeLessThanOrEqual(1_100);
      expect(growthMb).toBeLessThan(20);
      const third = Math.ceil(slicePages.length / 3);
      expect(meanOf(slicePages.slice(-third))).toBeLessThanOrEqual(2 * meanOf(slicePages.slice(0, third)));
      const { rows } = await sql<{ left: number }>`select count(*)::int as left from fanfare.replay_tally`.execute(
        db(),
      );
      expect(rows).toEqual([{ left: 0 }]);
    },
    ONE_RUN_MS,
  );

  it(
    'of what is missing looks over all of it, and finds what is',
    async () => {
      const lost = [1, DELIVERIES >> 1, DELIVERIES];
      await sql`delete from fanfare.delivery_done where position = any(${lost}::bigint[])`.execute(db());
      const id = await begin({ missing: true });
      report.missing_s = (await timed(() => go(id, 'worker', ({ status }) => status === 'DONE'))) / 1_000;
      expect(await show(id)).toMatchObject({ looked: DELIVERIES, created: lost.length, succeeded: lost.length });
      expect((await readSent(db(), id)).map(({ position }) => position)).toEqual(lost);
    },
    ONE_RUN_MS,
  );

  it('keeps to its pace, and ends when it is cancelled', async () => {
    const ratePerSecond = 200;
    const begunAt = performance.now();
    const id = await begin({ ratePerSecond });
    await go(id, 'stand-in', ({ created }) => created >= 3 * ratePerSecond);
    const { created } = await show(id);
    expect(created).toBeLessThanOrEqual(((performance.now() - begunAt) / 1_000) * ratePerSecond);
    expect(await change('Cancel', id)).toMatchObject({ status: 'CANCELLED', pending: 0 });
  });
});

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function meanOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, each) => sum + each, 0) / Math.max(numbers.length, 1);
}
