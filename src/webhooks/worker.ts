import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import { newId } from '../runtime/id.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Sender } from './attempt.ts';
import { createAttempting, withoutAttempt } from './attempting.ts';
import { type ChorePace, createChores } from './chores.ts';
import { type Claim, endTurns } from './claim.ts';
import { createClaiming } from './claiming.ts';
import type { Delivered } from './deliver.ts';
import type { ClaimResult } from './finish.ts';
import { createGathering } from './gathering.ts';
import { createHeaderBook } from './header-book.ts';
import { createLanes, type Postponed } from './lanes.ts';
import { createLeases } from './leases.ts';
import type { ReadyDelivery } from './prepare.ts';
import { createPreparing } from './preparing.ts';
import { createRecorder } from './recorder.ts';
import type { Sealer } from './seal.ts';
import { createDocumentReader } from './selection.ts';
import { createSigner } from './sign.ts';
import { createViews } from './views.ts';
import type { PrepareDeps } from './wanted.ts';
import { type WorkerLimits, workerLimits } from './worker-limits.ts';

export interface WebhookWorkerDeps extends Partial<WorkerLimits> {
  readonly engine: EngineServices;
  readonly schema: GraphQLSchema;
  readonly sender: Pick<Sender, 'send'>;
  readonly sealer: Sealer;
  readonly observe: Observe;
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

interface Worked {
  /** By the chores: above 0 there may be more. */
  readonly looked: number;
  readonly claimed: number;
  /** How many could have been claimed. */
  readonly limit: number;
}

/** Makes a worker; it does nothing until it is called. */
export function createWebhookWorker(options: WebhookWorkerDeps): WebhookWorker {
  const { engine, schema, sender, sealer, observe, random = Math.random, onCaptured = () => {} } = options;
  const { database, clock } = engine;
  const limits = workerLimits(options);
  const { pollMs, drainMs } = limits;
  const holder = newId('wrk');
  const wakeup = createWakeup();
  const stop = new AbortController();
  const giveUp = stop.signal;
  const underWay = new Set<Promise<void>>();
  const documents = createDocumentReader({ engine, schema: () => schema });
  const headers = createHeaderBook(sealer);
  const views = createViews({ engine, documents });
  const prepare: PrepareDeps = { engine, documents, views, sealer, headers, observe, turns: new Map() };
  const leases = createLeases({ holder, database, clock, observe, ...limits });
  const recorder = createRecorder({ database, clock, observe, random, close: leases.close, onCaptured });
  const deliver = { engine, sender, headers, random, sign: createSigner() };
  const attempt = createAttempting({ deliver, leases, giveUp, onBegun: record, onGrowth: noteGrowth });
  const lanes = createLanes(limits, { attempt, giveBack, postpone });
  const claiming = createClaiming({ database, holder, limits, leases, lanes });
  const preparing = createPreparing({ prepare, leases, lanes, giveUp, end });
  const chores = createChores(prepare);
  const gathering = createGathering({ clock, wakeup, lastClaimAtMs: () => claiming.lastAtMs });

  async function runOnce(): Promise<'more' | 'idle'> {
    const { looked, claimed } = await work({ everyMs: 0 }, true);
    return looked > 0 || claimed > 0 ? 'more' : 'idle';
  }

  /** A claim far below its limit took all that may be begun now: the next has something only when an attempt has ended. */
  async function workOn(): Promise<'more' | 'idle'> {
    const { looked, claimed, limit } = await work({ everyMs: pollMs }, false);
    return looked > 0 || (claimed > 0 && claimed * 2 >= limit) ? 'more' : 'idle';
  }

  async function work(pace: ChorePace, isComplete: boolean): Promise<Worked> {
    preparing.throwFailure(); // so that the loop backs off and reports it
    const looked = await chores.run(pace);
    giveBack(lanes.takeStale());
    const { fresh, claimed, limit, walkInMs } = await claiming.claim(isComplete);
    begin(fresh);
    if (walkInMs !== undefined) gathering.wakeIn(walkInMs);
    return { looked, claimed, limit };
  }

  /** Not awaited by the loop: a document that is slow to render holds up no other claims. */
  function begin(claims: readonly Claim[]): void {
    if (claims.length > 0) track(lead(claims));
  }

  async function lead(claims: readonly Claim[]): Promise<void> {
    const freed = await preparing.prepare(claims);
    if (claiming.notePrepared(claims, freed)) gathering.wakeSoon();
  }

  function record(claim: Claim, attempted: Promise<Delivered>): void {
    const recorded = attempted.then(recorder.record).catch(reportBroken);
    track(recorded.finally(() => drop(claim)));
  }

  function drop(claim: Claim): void {
    leases.drop(claim);
    if (claiming.noteEnd(claim)) gathering.wakeSoon();
  }

  /** The places that were given back are others'. */
  function wakeForOthers(): void {
    claiming.noteHint();
    gathering.wakeSoon();
  }

  function wake(): void {
    claiming.noteHint();
    gathering.wake();
  }

  function noteGrowth(webhookId: string): void {
    claiming.noteGrowth(webhookId);
  }

  function giveBack(ready: readonly ReadyDelivery[]): void {
    if (ready.length > 0) track(end(ready.map(({ claim }) => ({ claim, status: 'released' }))));
  }

  /** As no attempt: it comes round again when its origin has room for it. */
  function postpone(postponed: readonly Postponed[]): void {
    const results = postponed.map(({ ready: { claim }, delayMs }) => ({ claim, status: 'deferred' as const, delayMs }));
    track(end(results).then(wakeForOthers));
  }

  async function end(results: readonly ClaimResult[]): Promise<void> {
    await Promise.all(results.map((result) => recorder.record(withoutAttempt(result))));
    for (const { claim } of results) leases.drop(claim);
  }

  function track(work: Promise<void>): void {
    const tracked = work.catch(reportBroken).finally(() => void underWay.delete(tracked));
    underWay.add(tracked);
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
    await runLoop({ name: 'webhooks', everyMs: pollMs, work: workOn, wakeup, observe, signal, clock, random });
    giveBack(lanes.close());
    const drained = new AbortController();
    const deadline = clock.wait(drainMs, drained.signal).then(() => stop.abort());
    await settled();
    drained.abort();
    await deadline;
    await leases.ended();
    await endTurns(database, holder).catch(() => {}); // then they end by themselves
  }

  return { runOnce, settled, wake, run };
}
