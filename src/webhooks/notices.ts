import { sql, type Transaction } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import { emitOwn } from '../outbox/emit-own.ts';
import { deliveryExhausted, WEBHOOK_EVENTS, webhookDisabled, webhookFailing, webhookRecovered } from './events.ts';
import { type ClaimResult, type Finished, finishDeliveries } from './finish.ts';
import { occurrenceOf } from './occurrence.ts';

/** A moment of the payload: in SQL as `Date.toISOString` has it. */
const iso = (column: string) => sql`to_char(${sql.ref(column)} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

const LAST_FAILURE = sql`'failures', t.failures, 'lastStatusCode', t.status_code, 'lastErrorClass', t.error_class`;

/**
 * Emits what the turn of a webhook makes due, inside the statement that made it: of its row `t`, which has the webhook's columns as
 * they are now, `failed_since` as it was, and of the last failure `status_code` and `error_class`. Not in a statement behind it, since the
 * webhook is not held before the commit. Recovery comes first: a batch of attempts may hold a success, and failures behind it.
 */
export const TELL_TURN = sql`
  select count(a.id) from (
    select * from (values
      (${webhookRecovered.name}, ${webhookRecovered.version}::int, t.is_recovered, jsonb_build_object('failingSince', ${iso('t.failed_since')})),
      (${webhookFailing.name}, ${webhookFailing.version}::int, t.is_newly_failing,
        jsonb_build_object('failingSince', ${iso('t.failing_since')}, ${LAST_FAILURE})),
      (${webhookDisabled.name}, ${webhookDisabled.version}::int, t.is_newly_disabled,
        jsonb_build_object('failingSince', ${iso('t.failing_since')}, 'disabledReason', t.disabled_reason, ${LAST_FAILURE}))
    ) as every (name, version, is_due, facts)
    where every.is_due offset 0
  ) due
  cross join lateral fanfare.append(t.account_id, due.name, t.id,
    jsonb_build_object('webhook', jsonb_build_object('webhookId', t.id, 'description', t.description)) || due.facts,
    null, due.version, null, null, null, true) a`;

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
