import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { Delivered } from './deliver.ts';

/** A receiver that asks for a pause stops its webhook for so long at most; its Retry-After may hold a single delivery back for longer. */
const MAX_HOLD_MS = 3_600_000;
/** The longest pause where it does not say for how long. */
const MAX_GUESSED_HOLD_MS = 60_000;

/** How a webhook fared in a batch of attempts, in their order. */
interface Fare {
  failures: number;
  hasRecovered: boolean;
  isGone: boolean;
  isBusy: boolean;
  /** The longest pause that was asked for. */
  holdMs: number;
}

/** What an attempt has said of its webhook. */
export interface HealthNews {
  readonly disabled: readonly string[];
  /** Until when, by webhook. */
  readonly held: ReadonlyMap<string, Date>;
}

/**
 * Counts failures in a row, which narrow the webhook's window of claims; holds what answered 429 or 503, for as long as it asked or,
 * where it did not say, 1 s, 2 s, 4 s … with each failure in a row; disables what answered 410. Not in the transaction that
 * finishes deliveries: changes of a webhook lock it before its deliveries, and would meet that one crosswise. A crash in
 * between only forgets a count; a 410 or 429 is answered again.
 */
export async function noteHealth({ db }: Database, delivered: readonly Delivered[]): Promise<HealthNews> {
  const fares = faresOf(delivered);
  const rows = [...fares].map(([id, fare]) => ({ id, ...fare })).sort((a, b) => (a.id < b.id ? -1 : 1));
  if (rows.length === 0) return { disabled: [], held: new Map() };
  const failures = sql`case when f."hasRecovered" then 0 else w.failures end + f.failures`;
  const guessedMs = sql`least(1000 * 2 ^ least(${failures} - 1, 16), ${MAX_GUESSED_HOLD_MS})`;
  const holdMs = sql`case when f."holdMs" > 0 then least(f."holdMs", ${MAX_HOLD_MS}) else ${guessedMs} end`;
  const { rows: noted } = await sql<{ id: string; isGone: boolean; isBusy: boolean; held_until: Date }>`
    update fanfare.webhook w
    set failures = ${failures},
        held_until = case when f."isBusy" then greatest(w.held_until, fanfare.now() + interval '1 ms' * (${holdMs})) else w.held_until end,
        status = case when f."isGone" then 'DISABLED' else w.status end,
        disabled_reason = case when f."isGone" then 'the receiver answered 410 Gone' else w.disabled_reason end
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
           as f (id text, failures int, "hasRecovered" boolean, "isGone" boolean, "isBusy" boolean, "holdMs" bigint)
    where w.id = f.id and (f.failures > 0 or (f."hasRecovered" and w.failures > 0))
    returning w.id, f."isGone", f."isBusy", w.held_until
  `.execute(db);
  return {
    disabled: noted.flatMap(({ id, isGone }) => (isGone ? [id] : [])),
    held: new Map(noted.flatMap(({ id, isBusy, held_until }) => (isBusy ? [[id, held_until] as const] : []))),
  };
}

function faresOf(delivered: readonly Delivered[]): ReadonlyMap<string, Fare> {
  const fares = new Map<string, Fare>();
  for (const { result, receiver } of delivered) {
    if (!('attempt' in result)) continue;
    const fare = fares.get(result.claim.webhookId) ?? newFare();
    fares.set(result.claim.webhookId, fare);
    if (result.status === 'succeeded') Object.assign(fare, { failures: 0, hasRecovered: true });
    else fare.failures++;
    fare.isGone ||= receiver.kind === 'gone';
    if (receiver.kind !== 'busy') continue;
    fare.isBusy = true;
    fare.holdMs = Math.max(fare.holdMs, receiver.forMs ?? 0);
  }
  return fares;
}

function newFare(): Fare {
  return { failures: 0, hasRecovered: false, isGone: false, isBusy: false, holdMs: 0 };
}

/** Parks all open deliveries of these webhooks until somebody repairs them; reasons by webhook. */
export async function parkWebhooks({ db }: Database, reasons: ReadonlyMap<string, string>): Promise<void> {
  for (const [id, reason] of reasons) {
    await db
      .updateTable('fanfare.webhook')
      .set({ parked_reason: reason.slice(0, 2_000) })
      .where('id', '=', id)
      .where('parked_reason', 'is', null)
      .execute();
  }
}
