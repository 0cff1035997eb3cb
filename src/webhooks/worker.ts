import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Sender } from './attempt.ts';
import { type Claim, claimDeliveries } from './claim.ts';
import { type Delivered, deliver } from './deliver.ts';
import { parkWebhooks } from './health.ts';
import { prepareDeliveries, type ReadyDelivery } from './prepare.ts';
import { createRecorder } from './recorder.ts';
import { backfillWebhooks } from './registration.ts';
import type { PrepareDeps } from './render-bodies.ts';
import { reviewParked } from './review.ts';
import type { Sealer } from './seal.ts';
import { resealSecrets } from './secrets.ts';
import { createDocumentReader } from './selection.ts';

export interface WebhookWorkerDeps {
  readonly engine: EngineServices;
  readonly schema: GraphQLSchema;
  readonly sender: Pick<Sender, 'send'>;
  readonly sealer: Sealer;
  readonly observe: Observe;
  /** Attempts under way in this process; the last quarter is for webhooks with nothing under way. @default 500 */
  readonly maxInFlight?: number;
  /** Attempts under way to one webhook, in all processes. @default 8 */
  readonly webhookCap?: number;
  /** The same for one account, in this process. @default 200 */
  readonly accountCap?: number;
  /** Above the sender's deadline. @default 30_000 (ms) */
  readonly leaseMs?: number;
  /** The longest that an attempt may take: one is not begun with less than this left of its lease. @default 16_000 (ms) */
  readonly attemptMs?: number;
  /** The longest rest without a hint. @default 250 (ms) */
  readonly pollMs?: number;
  /** At the stop, attempts under way get this long to end by themselves. @default 8_000 (ms) */
  readonly drainMs?: number;
  /** @default Math.random */
  readonly random?: () => number;
}

/** Sends due deliveries. Any number of workers, in any number of processes, share the work. */
export interface WebhookWorker {
  /** Claims what is due and may be begun, and begins it; does not wait for the receivers. */
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
  const { leaseMs = 30_000, attemptMs = 16_000, pollMs = 250, drainMs = 8_000 } = options;
  const { database, clock } = engine;
  const documents = createDocumentReader({ engine, schema: () => options.schema });
  const prepareDeps: PrepareDeps = { engine, documents, sealer, observe };
  const recorder = createRecorder({ database, clock, observe, random });
  const wakeup = createWakeup();
  const giveUp = new AbortController();
  const underWay = new Set<Promise<void>>();
  const busy = new Map<string, number>();
  let reviewedAtMs = Number.NEGATIVE_INFINITY;
  let hasResealed = false;

  async function runOnce(): Promise<'more' | 'idle'> {
    await review();
    const looked = await backfillWebhooks(database.db, { limit: BACKFILL_POSITIONS });
    const limit = maxInFlight - underWay.size;
    if (limit <= 0) return 'idle'; // the end of an attempt wakes the loop
    const claimedAtMs = performance.now();
    const reserved = Math.floor(maxInFlight / 4);
    const claims = await claimDeliveries(database, { limit, reserved, leaseMs, webhookCap, accountCap, busy });
    if (claims.length > 0) await begin(claims, claimedAtMs + leaseMs - attemptMs);
    return looked > 0 || claims.length > 0 ? 'more' : 'idle';
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

  async function begin(claims: readonly Claim[], startBeforeMs: number): Promise<void> {
    const prepared = await prepareDeliveries(prepareDeps, claims).catch(async (error: unknown) => {
      await recordAll(claims.map((claim) => ({ result: { claim, status: 'released' }, gone: false })));
      throw error;
    });
    if (prepared.parked.size > 0) {
      await parkWebhooks(database, prepared.parked);
      for (const [id, reason] of prepared.parked)
        observe({ name: 'webhook.parked', level: 'warn', webhook_id: id, reason });
    }
    await recordAll(prepared.ended.map((result) => ({ result, gone: false })));
    for (const ready of prepared.ready) start(ready, startBeforeMs);
  }

  async function recordAll(delivered: readonly Delivered[]): Promise<void> {
    await Promise.all(delivered.map((each) => recorder.record(each)));
  }

  function start(ready: ReadyDelivery, startBeforeMs: number): void {
    const { accountId } = ready.claim;
    busy.set(accountId, (busy.get(accountId) ?? 0) + 1);
    const attempt = attemptOnce(ready, startBeforeMs)
      .catch(reportBroken)
      .finally(() => {
        underWay.delete(attempt);
        const left = (busy.get(accountId) ?? 1) - 1;
        if (left > 0) busy.set(accountId, left);
        else busy.delete(accountId);
        wakeup.wake();
      });
    underWay.add(attempt);
  }

  async function attemptOnce(ready: ReadyDelivery, startBeforeMs: number): Promise<void> {
    // a process that was frozen since its claim must not send beside the next owner
    if (performance.now() > startBeforeMs) return;
    await recorder.record(await deliver({ engine, sender: options.sender, random }, ready, giveUp.signal));
  }

  /** A bug of ours: the delivery comes round again when its lease has run out. */
  function reportBroken(error: unknown): void {
    observe({ name: 'delivery.broken', level: 'error', error });
  }

  async function settled(): Promise<void> {
    while (underWay.size > 0) await Promise.all(underWay);
  }

  async function run(signal: AbortSignal): Promise<void> {
    await runLoop({ name: 'webhooks', everyMs: pollMs, work: runOnce, wakeup, observe, signal, clock, random });
    const drained = new AbortController();
    const deadline = clock.wait(drainMs, drained.signal).then(() => giveUp.abort());
    await settled();
    drained.abort();
    await deadline;
  }

  return { runOnce, settled, wake: () => wakeup.wake(), run };
}
