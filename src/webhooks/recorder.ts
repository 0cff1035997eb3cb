import type { Database } from '../database/connect.ts';
import { type Backoff, backoffMs } from '../runtime/backoff.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Claim } from './claim.ts';
import type { Delivered } from './deliver.ts';
import type { Finished } from './finish.ts';
import { createHealth } from './health.ts';
import { finishAndTell } from './notices.ts';

export interface RecorderDeps {
  readonly database: Database;
  readonly clock: Clock;
  readonly observe: Observe;
  readonly random: () => number;
  /** The claim under its newest generation; asked when its result is written, and not before. */
  readonly close: (claim: Claim) => Claim;
  /** Called after each commit that captured an event: a hint to the sequencer. Must not throw. @default does nothing */
  readonly onCaptured?: () => void;
}

/** Writes what came of attempts: while one batch is being written the next gathers. */
export interface Recorder {
  /**
   * Resolves when the result is written, or given up: after 8 failures in a row of the database, or because the claim
   * was no longer the newest. What is given up is delivered again when its lease has run out.
   */
  record(delivered: Delivered): Promise<void>;
}

const MAX_BATCH = 500;
const MAX_FAILURES = 8;
/** Nobody waits for a record: the next attempt has its place already. Without it they were written by sixteens under load. */
const GATHER_MS = 5;
const BACKOFF: Backoff = { baseMs: 50, capMs: 2_000 };

interface Waiting {
  readonly delivered: Delivered;
  readonly written: () => void;
}

export function createRecorder(deps: RecorderDeps): Recorder {
  const { database, clock, observe, random, close, onCaptured = () => {} } = deps;
  const health = createHealth(database);
  const gather = () => clock.wait(GATHER_MS);
  const successes = createQueue({ gather, write: (batch) => write(batch.map(closed)) });
  /** Apart: what two hundred that hang have come to is written in half a second, for which no other waits. */
  const troubles = createQueue({
    gather,
    async write(batch) {
      // before: what is finished makes room for the next claim, and a webhook whose receiver has failed is to be held by then
      await noteHealthOf(batch);
      await write(batch.map(closed));
    },
  });
  /** Webhooks that have some among the troubles: their successes take the same way, so that they count in their order. */
  const troubled = new Map<string, number>();

  async function record(delivered: Delivered): Promise<void> {
    const id = delivered.result.claim.webhookId;
    if (!troubled.has(id) && !health.concerns(delivered)) return successes.put(delivered);
    troubled.set(id, (troubled.get(id) ?? 0) + 1);
    await troubles.put(delivered);
    const left = (troubled.get(id) ?? 1) - 1;
    if (left === 0) troubled.delete(id);
    else troubled.set(id, left);
  }

  function closed({ result, ...rest }: Delivered): Delivered {
    return { ...rest, result: { ...result, claim: close(result.claim) } };
  }

  async function write(batch: readonly Delivered[]): Promise<void> {
    for (let failures = 0; failures < MAX_FAILURES; failures++) {
      try {
        const { finished, told } = await finishAndTell(
          database,
          batch.map(({ result }) => result),
        );
        if (told > 0) onCaptured();
        report(batch, finished);
        return;
      } catch (error) {
        if (failures === 0) observe({ name: 'delivery.record_failed', level: 'warn', deliveries: batch.length, error });
        await clock.wait(backoffMs(failures, BACKOFF, random));
      }
    }
  }

  /** Once, also where the result then turns out to be superseded: the receiver has answered so. What can't be written is forgotten. */
  async function noteHealthOf(batch: readonly Delivered[]): Promise<void> {
    try {
      const news = await health.note(batch);
      const { failing, disabled, recovered, held } = news;
      if (failing.length + disabled.length + recovered.length > 0) onCaptured();
      for (const id of failing) observe({ name: 'webhook.failing', level: 'warn', webhook_id: id });
      for (const id of disabled) observe({ name: 'webhook.disabled', webhook_id: id });
      for (const id of recovered) observe({ name: 'webhook.recovered', webhook_id: id });
      for (const [id, until] of held) observe({ name: 'webhook.held', webhook_id: id, until: until.toISOString() });
    } catch (error) {
      observe({ name: 'webhook.health_failed', level: 'warn', deliveries: batch.length, error });
    }
  }

  function report(batch: readonly Delivered[], finished: readonly Finished[]): void {
    const byId = new Map(finished.map((each) => [each.id, each]));
    for (const { result } of batch) {
      const { claim, status } = result;
      const attempt = 'attempt' in result ? result.attempt : undefined;
      const counted = byId.get(claim.id);
      observe({
        name: attempt === undefined ? 'delivery.ended' : 'delivery.attempted',
        // of what goes well, each a record in the database, a line was a twentieth of the worker's time
        ...(status === 'succeeded' && counted !== undefined && { level: 'debug' }),
        delivery_id: claim.id,
        webhook_id: claim.webhookId,
        account_id: claim.accountId,
        event_id: claim.eventId,
        outcome: counted === undefined ? 'superseded' : status,
        ...(attempt && {
          attempt: claim.attempts + 1,
          status_code: attempt.statusCode,
          duration_ms: attempt.durationMs,
        }),
        ...(attempt?.errorClass && { error_class: attempt.errorClass }),
        ...(attempt?.reason && { reason: attempt.reason }),
        ...(counted?.nextAt && { next_at: counted.nextAt.toISOString() }),
        ...('error' in result && { reason: result.error }),
      });
    }
  }

  return { record };
}

interface Queue {
  /** Resolves when it is written. */
  put(delivered: Delivered): Promise<void>;
}

interface QueueDeps {
  /** Waited for before the first batch after a rest. Never rejects. */
  gather(): Promise<void>;
  /** Never rejects: failures are reported and given up inside. */
  write(batch: readonly Delivered[]): Promise<void>;
}

function createQueue({ gather, write }: QueueDeps): Queue {
  const waiting: Waiting[] = [];
  let isWriting = false;

  async function writeAll(): Promise<void> {
    isWriting = true;
    await gather();
    while (waiting.length > 0) {
      const batch = waiting.splice(0, MAX_BATCH);
      await write(batch.map(({ delivered }) => delivered));
      for (const { written } of batch) written();
    }
    isWriting = false;
  }

  return {
    put: (delivered) =>
      new Promise((resolve) => {
        waiting.push({ delivered, written: resolve });
        if (!isWriting) void writeAll();
      }),
  };
}
