import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import { newId } from '../runtime/id.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Sender } from './attempt.ts';
import { type Claim, claimDeliveries, endTurns } from './claim.ts';
import { type Delivered, deliver } from './deliver.ts';
import type { ClaimResult } from './finish.ts';
import { createHeaderBook } from './header-book.ts';
import { parkWebhooks } from './health.ts';
import { createLanes, type Fared, type Postponed } from './lanes.ts';
import { createLeases } from './leases.ts';
import { wakeWaiting } from './order.ts';
import { type Prepared, prepareDeliveries, type ReadyDelivery } from './prepare.ts';
import { createRecorder } from './recorder.ts';
import { backfillWebhooks } from './registration.ts';
import { reviewParked } from './review.ts';
import type { Sealer } from './seal.ts';
import { resealSecrets } from './secrets.ts';
import { createDocumentReader } from './selection.ts';
import { createSigner } from './sign.ts';
import { createViews } from './views.ts';
import type { PrepareDeps } from './wanted.ts';

export interface WebhookWorkerDeps {
  readonly engine: EngineServices;
  readonly schema: GraphQLSchema;
  readonly sender: Pick<Sender, 'send'>;
  readonly sealer: Sealer;
  readonly observe: Observe;
  /** Attempts under way in this process; the last quarter is for webhooks with nothing under way. @default 500 */
  readonly maxInFlight?: number;
  /** Deliveries claimed beyond the webhooks' caps, because they will soon be got to. @default 4_000 */
  readonly maxAhead?: number;
  /** Attempts under way to one webhook, in all processes. @default 8 */
  readonly webhookCap?: number;
  /** The same for one account, in this process. @default 200 */
  readonly accountCap?: number;
  /** Requests begun per second to one origin, for all webhooks of all accounts, in this process. @default 1_000 */
  readonly originRate?: number;
  /** What a killed process held goes out again after it. Renewed while the process lives. @default 4_000 (ms) */
  readonly leaseMs?: number;
  /** The longest that a delivery is held, rendering and attempt together. Above the sender's deadline. @default 30_000 (ms) */
  readonly holdMs?: number;
  /** The longest that an attempt may take: one is not begun with less than this left of `holdMs`. @default 16_000 (ms) */
  readonly attemptMs?: number;
  /** The longest rest without a hint. @default 250 (ms) */
  readonly pollMs?: number;
  /** At the stop, attempts under way get this long to end by themselves. @default 8_000 (ms) */
  readonly drainMs?: number;
  /** @default Math.random */
  readonly random?: () => number;
  /** Told of events that it captured, so that they need not wait for a poll of the sequencer. Must not throw. @default does nothing */
  readonly onCaptured?: () => void;
}

/** Sends due deliveries. Any number of workers, in any number of processes, share the work. */
export interface WebhookWorker {
  /** Claims what is due and may be begun, and begins it; waits neither for rendering nor for the receivers. */
  runOnce(): Promise<'more' | 'idle'>;
  /** Resolves when nothing is under way. */
  settled(): Promise<void>;
  /** A hint that deliveries may be due. */
  wake(): void;
  /**
   * Works until the signal aborts; then begins nothing more, lets attempts under way end, gives up at `drainMs` those
   * that have not (they go out again, with the same id and bytes), and resolves. Never rejects. Call it once.
   */
  run(signal: AbortSignal): Promise<void>;
}

const BACKFILL_POSITIONS = 1_000;
const REVIEW_EVERY_MS = 60_000;
const SWEEP_EVERY_MS = 2_000;
/** From the end of an attempt to the claim for its place, and between two claims: without it a backlog was claimed by ones and twos. */
const GATHER_MS = 8;

interface Worked {
  /** Positions looked at for webhooks that begin in the past. */
  readonly looked: number;
  readonly claimed: number;
  /** How many could have been claimed. */
  readonly limit: number;
}

/** Makes a worker; it does nothing until it is called. */
export function createWebhookWorker(options: WebhookWorkerDeps): WebhookWorker {
  const {
    engine,
    sealer,
    observe,
    maxInFlight = 500,
    maxAhead = 4_000,
    webhookCap = 8,
    accountCap = 200,
    originRate = 1_000,
    random = Math.random,
  } = options;
  const { leaseMs = 4_000, holdMs = 30_000, attemptMs = 16_000, pollMs = 250, drainMs = 8_000 } = options;
  const { database, clock } = engine;
  const documents = createDocumentReader({ engine, schema: () => options.schema });
  const headers = createHeaderBook(sealer);
  const views = createViews({ engine, documents });
  const prepareDeps: PrepareDeps = { engine, documents, views, sealer, headers, observe, turns: new Map() };
  const sign = createSigner();
  const wakeup = createWakeup();
  const giveUp = new AbortController();
  const underWay = new Set<Promise<void>>();
  const holder = newId('wrk');
  /** Of claims that are being prepared, wait in their lanes, or are attempted. */
  const leases = createLeases({ holder, database, clock, observe, leaseMs, holdMs, attemptMs });
  const recorder = createRecorder({
    database,
    clock,
    observe,
    random,
    close: leases.close,
    onCaptured: () => options.onCaptured?.(),
  });
  const lanes = createLanes({ maxInFlight, webhookCap, accountCap, originRate }, { attempt, giveBack, postpone });
  /** Webhooks whose turn was taken here. */
  const turns = new Set<string>();
  let failure: { readonly error: unknown } | undefined;
  let reviewedAtMs = Number.NEGATIVE_INFINITY;
  let hasResealed = false;
  let isWaking = false;
  /** The last claim took all that there was room for, of all webhooks or of these: there may be more. */
  let isFull = false;
  let full: ReadonlySet<string> = new Set();
  let claimedLastMs = 0;
  let backfillAtMs = 0;
  let sweepAtMs = 0;
  /** None while it is stepped by hand. */
  let backfillEveryMs = 0;

  async function runOnce(): Promise<'more' | 'idle'> {
    const { looked, claimed } = await work();
    return looked > 0 || claimed > 0 ? 'more' : 'idle';
  }

  async function work(): Promise<Worked> {
    throwFailure();
    await review();
    await sweep();
    const looked = await backfill();
    giveBack(lanes.takeStale());
    const { busy, places } = countPlaces();
    const limit = maxInFlight - places;
    if (limit <= 0) return { looked: 0, claimed: 0, limit }; // the end of an attempt wakes the loop
    const idle = [...turns].filter((webhookId) => !leases.byWebhook().has(webhookId));
    const claimedAtMs = performance.now();
    const claims = await claimDeliveries(database, {
      holder,
      limit,
      reserved: Math.floor(maxInFlight / 4),
      leaseMs,
      webhookCap,
      accountCap,
      busy,
      aheadLimit: Math.max(maxAhead - (leases.size - places), 0),
      ahead: countRoom(),
      idle,
    });
    for (const webhookId of idle) turns.delete(webhookId);
    for (const { webhookId } of claims) turns.add(webhookId);
    claimedLastMs = claimedAtMs;
    begin(leases.hold(claims, claimedAtMs));
    isFull = claims.length >= limit;
    full = new Set([...leases.byWebhook()].flatMap(([id, { count }]) => (count >= lanes.reachOf(id) ? [id] : [])));
    return { looked, claimed: claims.length, limit };
  }

  /** What each webhook may have claimed, where that is not its cap; those that have it are left out. */
  function countRoom(): ReadonlyMap<string, number> {
    const full = [...leases.byWebhook()].filter(([id, { count }]) => count >= lanes.reachOf(id));
    return new Map([...lanes.ahead(), ...full.map(([id]) => [id, 0] as const)]);
  }

  /** Looks for webhooks that begin in the past with each poll, and on while there is something. */
  async function backfill(): Promise<number> {
    if (performance.now() < backfillAtMs) return 0;
    const looked = await backfillWebhooks(database.db, { limit: BACKFILL_POSITIONS });
    backfillAtMs = looked > 0 ? 0 : performance.now() + backfillEveryMs;
    return looked;
  }

  /** Places that are taken: what is claimed beyond a webhook's cap waits for one of its webhook's. */
  function countPlaces(): { readonly busy: ReadonlyMap<string, number>; readonly places: number } {
    const busy = new Map<string, number>();
    let places = 0;
    for (const [webhookId, { accountId, count }] of leases.byWebhook()) {
      const taken = Math.min(count, lanes.capOf(webhookId));
      busy.set(accountId, (busy.get(accountId) ?? 0) + taken);
      places += taken;
    }
    return { busy, places };
  }

  /** A claim far below its limit took all that may be begun now: the next has something only when an attempt has ended. */
  async function workOn(): Promise<'more' | 'idle'> {
    const { looked, claimed, limit } = await work();
    return looked > 0 || (claimed > 0 && claimed * 2 >= limit) ? 'more' : 'idle';
  }

  /** What an older program or another key could not read, this one may; and what was mended elsewhere is found. */
  async function review(): Promise<void> {
    if (clock.now() - reviewedAtMs < REVIEW_EVERY_MS) return;
    reviewedAtMs = clock.now();
    const resealed = hasResealed ? 0 : await resealSecrets(database, sealer);
    hasResealed = true;
    const repaired = await reviewParked(prepareDeps);
    if (resealed + repaired > 0) observe({ name: 'webhook.reviewed', resealed, repaired });
  }

  /** Not often: it looks at each subject that has something open. */
  async function sweep(): Promise<void> {
    const startedAtMs = performance.now();
    if (startedAtMs < sweepAtMs) return;
    const woken = await wakeWaiting(database);
    const endedAtMs = performance.now();
    sweepAtMs = endedAtMs + Math.max(SWEEP_EVERY_MS, 20 * (endedAtMs - startedAtMs));
    if (woken > 0) observe({ name: 'delivery.woken', deliveries: woken });
  }

  /** Not awaited by the loop: a document that is slow to render holds up no other claims. */
  function begin(claims: readonly Claim[]): void {
    if (claims.length > 0) track(prepare(claims));
  }

  async function prepare(claims: readonly Claim[]): Promise<void> {
    const left = new Set(claims);
    const isLate = () => giveUp.signal.aborted || [...left].every(leases.isLate);
    try {
      await prepareDeliveries(prepareDeps, claims, { isLate, take });
    } catch (error) {
      failure = { error };
      await recordAll([...left].map((claim) => ({ claim, status: 'released' })));
    } finally {
      for (const claim of left) leases.drop(claim);
      wakeSoon();
    }

    async function take({ ready, ended, parked }: Prepared): Promise<void> {
      for (const each of ready) left.delete(each.claim);
      lanes.put(ready);
      // before its claims are handed back, so that they are not claimed again
      await park(parked);
      await recordAll(ended);
      for (const { claim } of ended) left.delete(claim);
    }
  }

  /** What kept claims from being prepared makes the next unit fail, so that the loop backs off and reports it. */
  function throwFailure(): void {
    if (failure === undefined) return;
    const { error } = failure;
    failure = undefined;
    throw error;
  }

  async function park(reasons: ReadonlyMap<string, string>): Promise<void> {
    if (reasons.size === 0) return;
    await parkWebhooks(database, reasons);
    for (const [id, reason] of reasons) observe({ name: 'webhook.parked', level: 'warn', webhook_id: id, reason });
  }

  async function recordAll(results: readonly ClaimResult[]): Promise<void> {
    await Promise.all(results.map((result) => recorder.record(untouched(result))));
    for (const { claim } of results) leases.drop(claim);
  }

  /** Begun by the webhook's lane; its place is free when the answer is there, before that is recorded. */
  async function attempt(ready: ReadyDelivery): Promise<Fared> {
    const startedAtMs = performance.now();
    const attempted = attemptOnce(ready);
    track(
      attempted
        .then(recorder.record)
        .catch(reportBroken)
        .finally(() => drop(ready.claim)),
    );
    const outcome = await attempted.then(outcomeOf, () => 'failed' as const);
    // its window was small, and is larger when this is recorded
    if (ready.webhook.failures > 0 || ready.webhook.holds > 0) full = new Set([...full, ready.webhook.id]);
    return { durationMs: performance.now() - startedAtMs, outcome };
  }

  function giveBack(ready: readonly ReadyDelivery[]): void {
    if (ready.length > 0) track(recordAll(ready.map(({ claim }) => ({ claim, status: 'released' }))));
  }

  /** As no attempt: it comes round again when its origin has room for it. */
  function postpone(postponed: readonly Postponed[]): void {
    const results = postponed.map(({ ready: { claim }, delayMs }) => ({ claim, status: 'deferred' as const, delayMs }));
    track(recordAll(results).then(wakeSoon)); // the places that they had are others'
  }

  /** What was not there at the last claim is told by a hint, or found by the poll: only who was full has more to ask for. */
  function drop(claim: Claim): void {
    leases.drop(claim);
    const { webhookId } = claim;
    const held = leases.byWebhook().get(webhookId)?.count ?? 0;
    const reach = lanes.reachOf(webhookId);
    // a lane that holds more than its cap gets the next before it is empty, but not by ones and twos
    const isHungry = reach > 0 && (held * 2 <= reach || reach <= lanes.capOf(webhookId));
    if (isFull || (full.has(webhookId) && isHungry)) wakeSoon();
  }

  function track(work: Promise<void>): void {
    const tracked = work.catch(reportBroken).finally(() => void underWay.delete(tracked));
    underWay.add(tracked);
  }

  /** Stamps come in swarms, too, under load: a claim for each would cost more than it brings. */
  function wake(): void {
    if (performance.now() - claimedLastMs < GATHER_MS) wakeSoon();
    else wakeup.wake();
  }

  /** Ends come in swarms, as their results are written together. */
  function wakeSoon(): void {
    if (isWaking) return;
    isWaking = true;
    setTimeout(() => {
      isWaking = false;
      wakeup.wake();
    }, GATHER_MS);
  }

  async function attemptOnce(ready: ReadyDelivery): Promise<Delivered> {
    // a process that was frozen since its claim must not send beside the next owner
    const mayBegin = !giveUp.signal.aborted && (await leases.mayBegin(ready.claim));
    if (!mayBegin) return untouched({ claim: ready.claim, status: 'released' });
    return deliver({ engine, sender: options.sender, headers, random, sign }, ready, giveUp.signal);
  }

  /** A bug of ours: the delivery comes round again when its lease has run out. */
  function reportBroken(error: unknown): void {
    observe({ name: 'delivery.broken', level: 'error', error });
  }

  async function settled(): Promise<void> {
    while (underWay.size > 0 || !lanes.isEmpty) {
      await Promise.all(underWay);
      await nextTurn(); // in which lanes begin what is next
    }
  }

  async function run(signal: AbortSignal): Promise<void> {
    backfillEveryMs = pollMs;
    await runLoop({ name: 'webhooks', everyMs: pollMs, work: workOn, wakeup, observe, signal, clock, random });
    giveBack(lanes.close());
    const drained = new AbortController();
    const deadline = clock.wait(drainMs, drained.signal).then(() => giveUp.abort());
    await settled();
    drained.abort();
    await deadline;
    await leases.ended();
    await endTurns(database, holder).catch(() => {}); // then they end by themselves
  }

  return { runOnce, settled, wake, run };
}

/** What ends without an attempt says nothing of the receiver. */
function untouched(result: ClaimResult): Delivered {
  return { result, webhook: undefined, receiver: { kind: 'fair' } };
}

function outcomeOf({ result: { status }, receiver }: Delivered): Fared['outcome'] {
  if (receiver.kind !== 'fair') return 'busy';
  return status === 'succeeded' ? 'succeeded' : 'failed';
}
