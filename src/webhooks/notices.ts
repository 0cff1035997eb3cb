import type { Transaction } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import { emitOwn } from '../outbox/emit-own.ts';
import { deliveryExhausted, WEBHOOK_EVENTS, webhookDisabled, webhookFailing, webhookRecovered } from './events.ts';
import { type ClaimResult, type Finished, finishDeliveries } from './finish.ts';
import { occurrenceOf } from './occurrence.ts';

/** What changed of a webhook, as the statement that changed it gives it. */
export interface Turn {
  readonly id: string;
  readonly account_id: string;
  readonly description: string;
  readonly failures: number;
  readonly failing_since: Date | null;
  /** Before the change. */
  readonly failed_since: Date | null;
  readonly disabled_reason: string | null;
  /** Of the last attempt that failed. */
  readonly status_code: number | null;
  readonly error_class: string | null;
  readonly is_recovered: boolean;
  readonly is_newly_failing: boolean;
  readonly is_newly_disabled: boolean;
}

/** Emits what the turns of webhooks make due, in the transaction that made them. */
export async function tellTurns(tx: Transaction<EngineTables>, turns: readonly Turn[]): Promise<void> {
  // first: a batch of attempts may hold a success, and failures behind it
  const recovered = turns.filter(({ is_recovered }) => is_recovered);
  await emitOwn(
    tx,
    webhookRecovered,
    recovered.map((turn) => aboutOf(turn, { failingSince: toText(turn.failed_since) })),
  );
  const failing = turns.filter(({ is_newly_failing }) => is_newly_failing);
  await emitOwn(
    tx,
    webhookFailing,
    failing.flatMap((turn) => {
      const failingSince = toText(turn.failing_since);
      return failingSince === null ? [] : aboutOf(turn, { failingSince, ...factsOf(turn) });
    }),
  );
  const disabled = turns.filter(({ is_newly_disabled }) => is_newly_disabled);
  await emitOwn(
    tx,
    webhookDisabled,
    disabled.map((turn) => {
      const reason = turn.disabled_reason ?? '';
      return aboutOf(turn, { reason, failingSince: toText(turn.failing_since), ...factsOf(turn) });
    }),
  );
}

function aboutOf<Facts extends object>({ id, account_id, description }: Turn, facts: Facts) {
  const payload = { webhook: { webhookId: id, description }, ...facts };
  return { accountId: account_id, subjectId: id, causedBy: null, payload };
}

function factsOf({ failures, status_code, error_class }: Turn) {
  return { failures, lastStatusCode: status_code, lastErrorClass: error_class };
}

function toText(date: Date | null): string | null {
  return date?.toISOString() ?? null;
}

/** What was written, and how many events that are to be stamped. */
export interface Told {
  readonly finished: readonly Finished[];
  readonly told: number;
}

/** A delivery that has used up its attempts. */
type Exhausted = Extract<ClaimResult, { readonly status: 'exhausted' }> & {
  readonly claim: { readonly eventId: string };
};

/** Finishes deliveries, and tells in the same transaction of those that have used up their attempts. */
export async function finishAndTell(database: Database, results: readonly ClaimResult[]): Promise<Told> {
  const exhausted = results.filter(isExhausted);
  if (exhausted.length === 0) return { finished: await finishDeliveries(database, results), told: 0 };
  return database.transaction(async (tx) => {
    const finished = await finishDeliveries({ db: tx }, results);
    const counted = new Set(finished.map(({ id }) => id));
    const told = await tellExhausted(
      tx,
      exhausted.filter(({ claim }) => counted.has(claim.id)),
    );
    return { finished, told };
  });
}

/** A ping has no event, and whoever sent it looks for what became of it. */
function isExhausted(result: ClaimResult): result is Exhausted {
  return result.status === 'exhausted' && result.claim.eventId !== null;
}

const OWN_NAMES: ReadonlySet<string | null> = new Set(WEBHOOK_EVENTS.map(({ name }) => name));

async function tellExhausted(tx: Transaction<EngineTables>, exhausted: readonly Exhausted[]): Promise<number> {
  const names = await readNames(tx, exhausted);
  const emissions = exhausted.flatMap(({ claim, attempt }) => {
    const eventName = names.get(claim.eventId) ?? null;
    // a receiver of these notices that is away would get one of each that did not reach it, without end
    if (OWN_NAMES.has(eventName)) return [];
    const { id: deliveryId, webhookId, eventId } = claim;
    const delivery = { deliveryId, webhookId, eventId, eventName, attempts: claim.attempts + 1 };
    const payload = { delivery, lastStatusCode: attempt.statusCode, lastErrorClass: attempt.errorClass };
    return { accountId: claim.accountId, subjectId: deliveryId, causedBy: eventId, payload };
  });
  await emitOwn(tx, deliveryExhausted, emissions);
  return emissions.length;
}

/** Of events by their ids; those past retention are left out. */
async function readNames(
  tx: Transaction<EngineTables>,
  exhausted: readonly Exhausted[],
): Promise<ReadonlyMap<string, string>> {
  if (exhausted.length === 0) return new Map();
  const occurred = occurrenceOf(exhausted.map(({ claim }) => claim.eventId));
  let query = tx
    .selectFrom('fanfare.event')
    .select(['id', 'name'])
    .where('seq', 'in', [...new Set(exhausted.map(({ claim }) => claim.seq))]);
  if (occurred !== undefined) {
    query = query.where('occurred_at', '>=', occurred.first).where('occurred_at', '<=', occurred.last);
  }
  return new Map((await query.execute()).map(({ id, name }) => [id, name]));
}
