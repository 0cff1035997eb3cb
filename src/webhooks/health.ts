import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { Delivered } from './deliver.ts';
import type { Webhook } from './webhook.ts';

/** Failures in a row from which on a webhook is held: its circuit is open. */
export const OPEN_FROM = 5;
/** `WebhookCircuit` in the graph. */
export const CIRCUITS = ['CLOSED', 'OPEN', 'HALF_OPEN'] as const;

/** As its receiver has fared lately. */
export function circuitOf(webhook: Pick<Webhook, 'failures' | 'held_until'>, nowMs: number): (typeof CIRCUITS)[number] {
  if (webhook.held_until !== null && webhook.held_until.getTime() > nowMs) return 'OPEN';
  return webhook.failures >= OPEN_FROM ? 'HALF_OPEN' : 'CLOSED';
}

/** A receiver that asks for a pause holds its webhook for so long at most; its Retry-After may hold a single delivery back for longer. */
const MAX_HOLD_MS = 3_600_000;
/** The longest hold that it has not asked for: so soon after its return it is found. */
const MAX_GUESSED_HOLD_MS = 60_000;

/** How a webhook fared in a batch of attempts, in their order; as the statement reads it. */
interface Fare {
  failures: number;
  has_recovered: boolean;
  is_gone: boolean;
  is_busy: boolean;
  /** The longest pause that was asked for. */
  hold_ms: number;
}

/** What attempts have said of their webhooks. */
export interface HealthNews {
  readonly disabled: readonly string[];
  /** Those whose hold has begun now, and until when. */
  readonly held: ReadonlyMap<string, Date>;
}

/**
 * Counts failures in a row, which narrow the webhook's window of claims; holds what answered 429 or 503 for as long as it
 * asked; holds what did not say, and what has failed five times in a row, for 1 s, then 2 s, 4 s … 60 s each time that it fails
 * again after a hold; disables what answered 410.
 *
 * Not in the transaction that finishes deliveries: changes of a webhook lock it before its deliveries, and would meet that
 * one crosswise. A crash in between only forgets a count; a 410 or 429 is answered again.
 */
export async function noteHealth({ db }: Database, delivered: readonly Delivered[]): Promise<HealthNews> {
  const fares = [...faresOf(delivered)].map(([id, fare]) => ({ id, ...fare }));
  if (fares.length === 0) return { disabled: [], held: new Map() };
  const { rows } = await sql<{ id: string; is_gone: boolean; newly_held_until: Date | null }>`
    with before as (
      select w.id, f.is_gone, f.is_busy, f.hold_ms, f.failures as failed, w.held_until,
             case when f.has_recovered then 0 else w.failures end + f.failures as failures,
             case when f.has_recovered then 0 else w.holds end as holds,
             coalesce(w.held_until > fanfare.now(), false) as is_held
      from jsonb_to_recordset(${JSON.stringify(fares)}::jsonb)
             as f (id text, failures int, has_recovered boolean, is_gone boolean, is_busy boolean, hold_ms bigint)
      join fanfare.webhook w on w.id = f.id
      where f.failures > 0 or w.failures > 0
      order by w.id for update of w
    ), judged as (
      -- what was under way when a hold began says no more than that it should begin
      select b.*, b.failed > 0 and (b.is_busy or b.failures >= ${OPEN_FROM}) and (not b.is_held or b.hold_ms > 0) as trips,
             case when b.hold_ms > 0 then least(b.hold_ms, ${MAX_HOLD_MS})
                  else least(1000 * 2 ^ least(b.holds, 16), ${MAX_GUESSED_HOLD_MS}) end as next_hold_ms
      from before b
    )
    update fanfare.webhook w
    set failures = j.failures, holds = j.holds + (j.trips and not j.is_held)::int,
        held_until = case when j.trips then greatest(w.held_until, fanfare.now() + j.next_hold_ms * interval '1 ms')
                          when j.is_held then w.held_until end,
        status = case when j.is_gone then 'DISABLED' else w.status end,
        disabled_reason = case when j.is_gone then 'the receiver answered 410 Gone' else w.disabled_reason end
    from judged j where w.id = j.id
    returning w.id, j.is_gone, case when j.trips and not j.is_held then w.held_until end as newly_held_until
  `.execute(db);
  return {
    disabled: rows.flatMap(({ id, is_gone }) => (is_gone ? [id] : [])),
    held: new Map(rows.flatMap(({ id, newly_held_until: until }) => (until === null ? [] : [[id, until] as const]))),
  };
}

function faresOf(delivered: readonly Delivered[]): ReadonlyMap<string, Fare> {
  const fares = new Map<string, Fare>();
  for (const { result, receiver, wasFailing } of delivered) {
    // a success of what did not fail is no news, and by far the most frequent: where it began to fail meanwhile, the next one tells
    if (!('attempt' in result) || (result.status === 'succeeded' && !wasFailing)) continue;
    const fare = fares.get(result.claim.webhookId) ?? newFare();
    fares.set(result.claim.webhookId, fare);
    if (result.status === 'succeeded') Object.assign(fare, { failures: 0, has_recovered: true });
    else fare.failures++;
    fare.is_gone ||= receiver.kind === 'gone';
    if (receiver.kind !== 'busy') continue;
    fare.is_busy = true;
    fare.hold_ms = Math.max(fare.hold_ms, receiver.forMs ?? 0);
  }
  return fares;
}

function newFare(): Fare {
  return { failures: 0, has_recovered: false, is_gone: false, is_busy: false, hold_ms: 0 };
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
