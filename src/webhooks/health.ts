import { type Kysely, sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import type { Delivered } from './deliver.ts';
import { TELL_TURN } from './notices.ts';
import type { Webhook } from './webhook.ts';

/** Failures in a row from which on a webhook is held: its circuit is open. */
export const OPEN_FROM = 5;
/** `WebhookCircuit` in the graph. */
export const CIRCUITS = ['CLOSED', 'OPEN', 'HALF_OPEN'] as const;

/** As its receiver has fared lately. */
export function circuitOf(
  { failures, holds, held_until }: Pick<Webhook, 'failures' | 'holds' | 'held_until'>,
  nowMs: number,
): (typeof CIRCUITS)[number] {
  if (held_until !== null && held_until.getTime() > nowMs) return 'OPEN';
  return holds > 0 || failures >= OPEN_FROM ? 'HALF_OPEN' : 'CLOSED';
}

/** A receiver that asks for a pause holds its webhook for so long at most; its Retry-After may hold a single delivery back for longer. */
const MAX_HOLD_MS = 3_600_000;
/** The longest hold that it has not asked for: so soon after its return it is found. */
const MAX_GUESSED_HOLD_MS = 60_000;

/** After so long with nothing but failures, five of them or more, a webhook is disabled. */
export const DISABLE_AFTER_DAYS = 5;
const WORN_OUT = `for ${DISABLE_AFTER_DAYS} days nothing came but failures`;
const GONE = 'the receiver answered 410 Gone';

/** How a webhook fared at one URL in a batch of attempts, in their order; as the statement reads it. */
interface Fare {
  readonly id: string;
  /** Where it pointed then: what another receiver has answered is none of the present one's. */
  readonly url: string;
  failures: number;
  has_recovered: boolean;
  is_gone: boolean;
  is_busy: boolean;
  /** The longest pause that was asked for. */
  hold_ms: number;
  /** How long ago the last attempt that failed began. */
  failed_ms: number;
  wasFailing: boolean;
  /** Of the last attempt that failed. */
  status_code: number | null;
  error_class: string | null;
}

/** What attempts have said of their webhooks. */
export interface HealthNews {
  readonly failing: readonly string[];
  readonly disabled: readonly string[];
  readonly recovered: readonly string[];
  /** Those whose hold has begun now, and until when. */
  readonly held: ReadonlyMap<string, Date>;
}

/** Keeps up how webhooks fare. */
export interface Health {
  /**
   * Counts failures in a row, which narrow the webhook's window of claims; holds what answered 429 or 503 for as long as it
   * asked; holds what did not say, and what has failed five times in a row, for 1 s, then 2 s, 4 s … 60 s each time that it
   * fails again after a hold; disables what answered 410, and what has done nothing but fail for five days. Each webhook's turn for
   * the worse, and the first success behind it, becomes an event in the same statement: the row's lock makes it one, however many
   * look at once. Only failures are looked at: a webhook that nothing is sent to is not disabled.
   *
   * Not in the transaction that finishes deliveries: changes of a webhook lock it before its deliveries, and would meet that
   * one crosswise, but before it. After a crash in between the attempt is made again, and counts again.
   */
  note(delivered: readonly Delivered[]): Promise<HealthNews>;
  /** Whether {@link note} would have something to write. */
  concerns(delivered: Delivered): boolean;
}

const NO_NEWS: HealthNews = { failing: [], disabled: [], recovered: [], held: new Map() };

export function createHealth({ db }: Database): Health {
  /** Webhooks that were failing when they were last noted here. */
  const failing = new Set<string>();
  // successes of what does not fail are no news, and by far the most frequent; where it has begun to fail in another process,
  // the next claims will know
  const newsOf = (delivered: readonly Delivered[]) =>
    faresOf(delivered).filter((fare) => isNews(fare) || failing.has(fare.id));

  return {
    concerns: (delivered) => newsOf([delivered]).length > 0,
    async note(delivered) {
      const fares = newsOf(delivered);
      if (fares.length === 0) return NO_NEWS;
      const rows = await writeFares(db, fares);
      for (const { id } of fares) failing.delete(id);
      for (const { id } of rows.filter(({ is_failing }) => is_failing)) failing.add(id);
      return {
        failing: rows.flatMap(({ id, is_newly_failing }) => (is_newly_failing ? [id] : [])),
        disabled: rows.flatMap(({ id, is_newly_disabled }) => (is_newly_disabled ? [id] : [])),
        recovered: rows.flatMap(({ id, is_recovered }) => (is_recovered ? [id] : [])),
        held: new Map(
          rows.flatMap(({ id, newly_held_until: until }) => (until === null ? [] : [[id, until] as const])),
        ),
      };
    },
  };
}

interface NotedRow {
  readonly id: string;
  readonly is_failing: boolean;
  readonly is_newly_failing: boolean;
  readonly is_newly_disabled: boolean;
  readonly is_recovered: boolean;
  readonly newly_held_until: Date | null;
}

/**
 * While a webhook is held, what comes of attempts that were under way says no more than that it should be; nor does the failure,
 * after the hold, of one that began before its end. A pause that the receiver asks for counts whenever it asks.
 */
async function writeFares(db: Kysely<EngineTables>, fares: readonly Fare[]): Promise<readonly NotedRow[]> {
  const { rows } = await sql<NotedRow>`
    with before as (
      select w.id, w.alarm, w.failing_since as failed_since, w.status <> 'DISABLED' as is_served, w.status = 'ACTIVE' as is_active,
             f.is_gone, f.is_busy, f.hold_ms, f.failures as failed, f.status_code, f.error_class,
             case when r.recovers then 0 else w.failures end + f.failures as failures,
             case when r.recovers then 0 else w.holds end as holds,
             coalesce(case when not r.recovers then w.failing_since end, case when f.failures > 0 then fanfare.now() end) as failing_since,
             r.recovers, h.is_held, coalesce(fanfare.now() - f.failed_ms * interval '1 ms' < w.held_until, false) as is_old
      from jsonb_to_recordset(${JSON.stringify(fares)}::jsonb) as f (
        id text, url text, failures int, has_recovered boolean, is_gone boolean, is_busy boolean, hold_ms bigint, failed_ms bigint,
        status_code int, error_class text)
      join fanfare.webhook w on w.id = f.id and w.url = f.url
      cross join lateral (select coalesce(w.held_until > fanfare.now(), false) as is_held) h
      cross join lateral (select f.has_recovered and not h.is_held as recovers) r
      order by w.id for update of w
    ), judged as (
      select b.*, b.hold_ms > 0 or not b.is_old and (b.is_busy or b.failed > 0 and (b.holds > 0 or b.failures >= ${OPEN_FROM})) as trips,
             case when b.hold_ms > 0 then least(b.hold_ms, ${MAX_HOLD_MS})
                  else least(1000 * 2 ^ least(b.holds, 16), ${MAX_GUESSED_HOLD_MS}) end as next_hold_ms,
             case when not b.is_served then null
                  when b.is_gone then ${GONE}
                  when b.is_active and b.fails and b.failing_since <= fanfare.now() - ${DISABLE_AFTER_DAYS} * interval '1 day'
                  then ${WORN_OUT} end as ends_for
      from (select b.*, b.failed > 0 and b.failures >= ${OPEN_FROM} as fails from before b) b
    ), told as (
      select j.*, j.ends_for is not null as is_newly_disabled, j.is_served and j.recovers and j.alarm is not null as is_recovered,
             j.is_served and j.ends_for is null and j.fails and (j.recovers or j.alarm is distinct from 'ON') as is_newly_failing
      from judged j
    ), turned as (
      update fanfare.webhook w
      set failures = j.failures, holds = j.holds + (j.trips and not j.is_held)::int,
          held_until = case when j.trips then greatest(w.held_until, fanfare.now() + j.next_hold_ms * interval '1 ms')
                            -- kept until it is back: what began before its end is known by it
                            when j.holds > 0 then w.held_until end,
          failing_since = j.failing_since,
          alarm = case when j.is_newly_disabled or j.is_newly_failing then 'ON' when not j.is_recovered then w.alarm end,
          status = case when j.is_newly_disabled then 'DISABLED' else w.status end,
          disabled_reason = coalesce(j.ends_for, w.disabled_reason)
      from told j where w.id = j.id
      returning w.id, w.account_id, w.description, w.failures, w.failing_since, j.failed_since, w.disabled_reason, j.status_code, j.error_class,
                j.is_recovered, j.is_newly_failing, j.is_newly_disabled, w.failures > 0 or w.holds > 0 or w.alarm is not null as is_failing,
                case when j.trips and not j.is_held then w.held_until end as newly_held_until
    )
    select t.id, t.is_failing, t.is_newly_failing, t.is_newly_disabled, t.is_recovered, t.newly_held_until, (${TELL_TURN}) as told
    from turned t
  `.execute(db);
  return rows;
}

function faresOf(delivered: readonly Delivered[]): readonly Fare[] {
  const fares = new Map<string, Fare>();
  for (const { result, webhook, receiver } of delivered) {
    if (!('attempt' in result) || webhook === undefined) continue;
    const key = `${webhook.id} ${webhook.url}`;
    const fare = fares.get(key) ?? newFare(webhook);
    fares.set(key, fare);
    if (result.status === 'succeeded') Object.assign(fare, { failures: 0, has_recovered: true });
    else {
      const { durationMs, statusCode, errorClass } = result.attempt;
      fare.failures++;
      fare.failed_ms = Math.min(fare.failed_ms, durationMs);
      Object.assign(fare, { status_code: statusCode, error_class: errorClass });
    }
    fare.is_gone ||= receiver.kind === 'gone';
    if (receiver.kind !== 'busy') continue;
    fare.is_busy = true;
    fare.hold_ms = Math.max(fare.hold_ms, receiver.forMs ?? 0);
  }
  return [...fares.values()];
}

function isNews({ failures, is_busy, wasFailing }: Fare): boolean {
  return failures > 0 || is_busy || wasFailing;
}

function newFare({ id, url, failures, holds, alarm }: Webhook): Fare {
  return {
    id,
    url,
    failures: 0,
    has_recovered: false,
    is_gone: false,
    is_busy: false,
    hold_ms: 0,
    failed_ms: 86_400_000,
    wasFailing: failures > 0 || holds > 0 || alarm !== null,
    status_code: null,
    error_class: null,
  };
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
