import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Sender } from './attempt.ts';
import { type Claim, claimDeliveries } from './claim.ts';
import { type Delivered, deliver } from './deliver.ts';
import type { ClaimResult } from './finish.ts';
import { parkWebhooks } from './health.ts';
import { createLeases } from './leases.ts';
import { type Prepared, prepareDeliveries, type ReadyDelivery } from './prepare.ts';
import { createRecorder } from './recorder.ts';
import { backfillWebhooks } from './registration.ts';
import { reviewParked } from './review.ts';
import type { Sealer } from './seal.ts';
import { resealSecrets } from './secrets.ts';
import { createDocumentReader } from './selection.ts';
import type { PrepareDeps } from './wanted.ts';

export interface WebhookWorkerDeps {
  readonly engine: EngineServices;
  readonly schema: GraphQLSchema;
  readonly sender: Pick<Sender, 'send'>;
  readonly sealer: Sealer;
  readonly observe: Observe;
  /** Deliveries being rendered or attempted in this process; the last quarter is for webhooks with nothing under way. @default 500 */
  readonly maxInFlight?: number;
  /** Attempts under way to one webhook, in all processes. @default 8 */
  readonly webhookCap?: number;
  /** The same for one account, in this process. @default 200 */
  readonly accountCap?: number;
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
/**
 * From the end of an attempt to the claim for its place. Without it a webhook's backlog was claimed by ones and twos, each
 * with eleven statements.
 */
const GATHER_MS = 3;

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
    webhookCap = 8,
    accountCap = 200,
    random = Math.random,
  } = options;
  const { leaseMs = 4_000, holdMs = 30_000, attemptMs = 16_000, pollMs = 250, drainMs = 8_000 } = options;
  const { database, clock } = engine;
  const documents = createDocumentReader({ engine, schema: () => options.schema });
  const prepareDeps: PrepareDeps = { engine, documents, sealer, observe, turns: new Map() };
  const recorder = createRecorder({ database, clock, observe, random, onCaptured: () => options.onCaptured?.() });
  const wakeup = createWakeup();
  const giveUp = new AbortController();
  const underWay = new Set<Promise<void>>();
  /** Of claims that are being prepared or attempted. */
  const leases = createLeases({ database, clock, observe, leaseMs, holdMs, attemptMs });
  let failure: { readonly error: unknown } | undefined;
  let reviewedAtMs = Number.NEGATIVE_INFINITY;
  let hasResealed = false;
  let isWaking = false;

  async function runOnce(): Promise<'more' | 'idle'> {
    const { looked, claimed } = await work();
    return looked > 0 || claimed > 0 ? 'more' : 'idle';
  }

  async function work(): Promise<Worked> {
    throwFailure();
    await review();
    const looked = await backfillWebhooks(database.db, { limit: BACKFILL_POSITIONS });
    const limit = maxInFlight - leases.size;
    if (limit <= 0) return { looked: 0, claimed: 0, limit }; // the end of an attempt wakes the loop
    const claimedAtMs = performance.now();
    const reserved = Math.floor(maxInFlight / 4);
    const busy = leases.byAccount();
    const claims = await claimDeliveries(database, { limit, reserved, leaseMs, webhookCap, accountCap, busy });
    begin(leases.hold(claims, claimedAtMs));
    return { looked, claimed: claims.length, limit };
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
    }

    async function take({ ready, ended, parked }: Prepared): Promise<void> {
      for (const each of ready) {
        left.delete(each.claim);
        start(each);
      }
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
    await Promise.all(results.map((result) => record(untouched(result))));
    for (const { claim } of results) leases.drop(claim);
  }

  function start(ready: ReadyDelivery): void {
    track(attemptOnce(ready).finally(() => leases.drop(ready.claim)));
  }

  function track(work: Promise<void>): void {
    const tracked = work.catch(reportBroken).finally(() => {
      underWay.delete(tracked);
      wakeSoon();
    });
    underWay.add(tracked);
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

  async function attemptOnce(ready: ReadyDelivery): Promise<void> {
    // a process that was frozen since its claim must not send beside the next owner
    const mayBegin = !giveUp.signal.aborted && (await leases.mayBegin(ready.claim));
    const delivered: Delivered = mayBegin
      ? await deliver({ engine, sender: options.sender, random }, ready, giveUp.signal)
      : untouched({ claim: ready.claim, status: 'released' });
    await record(delivered);
  }

  function record({ result, ...rest }: Delivered): Promise<void> {
    return recorder.record({ ...rest, result: { ...result, claim: leases.close(result.claim) } });
  }

  /** A bug of ours: the delivery comes round again when its lease has run out. */
  function reportBroken(error: unknown): void {
    observe({ name: 'delivery.broken', level: 'error', error });
  }

  async function settled(): Promise<void> {
    while (underWay.size > 0) await Promise.all(underWay);
  }

  async function run(signal: AbortSignal): Promise<void> {
    await runLoop({ name: 'webhooks', everyMs: pollMs, work: workOn, wakeup, observe, signal, clock, random });
    const drained = new AbortController();
    const deadline = clock.wait(drainMs, drained.signal).then(() => giveUp.abort());
    await settled();
    drained.abort();
    await deadline;
    await leases.ended();
  }

  return { runOnce, settled, wake: () => wakeup.wake(), run };
}

/** What ends without an attempt says nothing of the receiver. */
function untouched(result: ClaimResult): Delivered {
  return { result, webhook: undefined, receiver: { kind: 'fair' } };
}
