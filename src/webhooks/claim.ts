import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';

/** A delivery that this process may make one attempt at, until its lease runs out. */
export interface Claim {
  readonly accountId: string;
  /** `dlv_…`: the `webhook-id` of each of its requests. */
  readonly id: string;
  readonly webhookId: string;
  /** 0 for a ping, which has no event. */
  readonly seq: number;
  readonly position: number;
  readonly eventId: string | null;
  /** Of this claim: a result counts only while nobody has claimed anew. */
  readonly generation: number;
  /** Attempts made on the present schedule. */
  readonly step: number;
  /** Attempts ever made. */
  readonly attempts: number;
  /** How long before the claim the first on the present schedule began; 0 before it. */
  readonly sinceFirstMs: number;
  /** Where its body is stored; null before it was rendered. Set by who stores it; its row has it with the first result, or renewal. */
  bodyKey: string | null;
  /** The replay or the resend that it is of; null for an event's first way to the webhook. */
  readonly run: string | null;
  /** Within which it keeps the order; null: none. */
  readonly subject: string | null;
}

export interface ClaimLimits {
  /** Who claims: a webhook is sent to by one holder at a time, until what it has claimed has ended, or its leases have run out. */
  readonly holder: string;
  /** Webhooks to claim of, which is quick; without, all that have something, which are looked for one by one. @default all */
  readonly only?: readonly string[] | undefined;
  /** Claims at most, within the webhooks' caps. */
  readonly limit: number;
  /** How many of these are only for webhooks with nothing under way. */
  readonly reserved: number;
  readonly leaseMs: number;
  /** Deliveries of one webhook that may be under way. */
  readonly webhookCap: number;
  /** Deliveries of one account that may be under way in this process. */
  readonly accountCap: number;
  /** How many are, by account. */
  readonly busy: ReadonlyMap<string, number>;
  /** Claims at most beyond the webhooks' caps. */
  readonly aheadLimit: number;
  /** How many of its first due ones a webhook may have claimed, where that is more than its cap; 0: it has as many as it may. */
  readonly ahead: ReadonlyMap<string, number>;
  /** Webhooks that it has nothing of any more: another may have their turn, unless they are claimed from again. */
  readonly idle?: readonly string[];
}

/**
 * Claims due deliveries: one statement, whose shape and reasons are in `fanfare.claim_deliveries`. Within a webhook they
 * come in the order of their due times, then of the log; two processes never get the same, nor any of one webhook at once.
 */
export async function claimDeliveries({ db }: Database, limits: ClaimLimits): Promise<Claim[]> {
  const {
    holder,
    only = null,
    limit,
    reserved,
    leaseMs,
    webhookCap,
    accountCap,
    busy,
    aheadLimit,
    ahead,
    idle = [],
  } = limits;
  const { rows } = await sql<ClaimRow>`
    select * from fanfare.claim_deliveries(${holder}, ${only}::text[], ${limit}::int, ${aheadLimit}::int, ${reserved}::int, ${leaseMs}::int * interval '1 ms',
      ${webhookCap}::int, ${JSON.stringify(Object.fromEntries(ahead))}::jsonb, ${accountCap}::int,
      ${[...busy.keys()]}::text[], ${[...busy.values()]}::int[], ${idle}::text[])
  `.execute(db);
  return rows.map(toClaim).sort((a, b) => a.position - b.position);
}

/**
 * Lengthens the leases of claims that nobody has claimed anew, and the turns of their webhooks; ties the deliveries to the bodies that are
 * being sent, so that those of long attempts are known before their results. What another statement has locked
 * is left out: it is being finished, or taken over.
 * @returns the ids of those that are renewed
 */
export async function renewClaims(
  { db }: Database,
  claims: readonly Claim[],
  { holder, leaseMs }: Pick<ClaimLimits, 'holder' | 'leaseMs'>,
): Promise<ReadonlySet<string>> {
  const keys = Object.fromEntries(claims.map(({ id, bodyKey }) => [id, bodyKey]));
  const { rows } = await sql<{ id: string }>`
    with mine as (
      select d.place
      from unnest(${claims.map(({ accountId }) => accountId)}::text[], ${claims.map(({ id }) => id)}::text[],
                  ${claims.map(({ generation }) => generation)}::int[]) as held (account_id, id, generation)
      cross join lateral (
        select o.ctid as place from fanfare.delivery o
        where o.account_id = held.account_id and o.id = held.id and o.generation = held.generation and o.lease_until is not null
        for update skip locked
      ) d
    ), turn as (
      select t.webhook_id from fanfare.turn t
      where t.holder = ${holder} and t.webhook_id = any(${[...new Set(claims.map(({ webhookId }) => webhookId))]}::text[])
      order by t.webhook_id for update of t skip locked
    ), kept as (
      update fanfare.turn t set lease_until = clock_timestamp() + ${leaseMs}::int * interval '1 ms'
      from turn where t.webhook_id = turn.webhook_id
    )
    update fanfare.delivery d set lease_until = clock_timestamp() + ${leaseMs}::int * interval '1 ms',
      body_key = coalesce(d.body_key, ${JSON.stringify(keys)}::jsonb->>d.id)
    where d.ctid = any(array(select mine.place from mine)) returning d.id
  `.execute(db);
  return new Set(rows.map(({ id }) => id));
}

/** Lets others have a turn at once; without, they wait until the leases of the last claims have run out. */
export async function endTurns({ db }: Database, holder: string): Promise<void> {
  await sql`delete from fanfare.turn t where t.holder = ${holder}`.execute(db);
}

interface ClaimRow {
  readonly account_id: string;
  readonly id: string;
  readonly webhook_id: string;
  readonly seq: number;
  readonly position: number;
  readonly event_id: string | null;
  readonly generation: number;
  readonly step: number;
  readonly attempts: number;
  readonly since_first_ms: number;
  readonly body_key: string | null;
  readonly run: string | null;
  readonly subject: string | null;
}

function toClaim(row: ClaimRow): Claim {
  return {
    accountId: row.account_id,
    id: row.id,
    webhookId: row.webhook_id,
    seq: row.seq,
    position: row.position,
    eventId: row.event_id,
    generation: row.generation,
    step: row.step,
    attempts: row.attempts,
    sinceFirstMs: row.since_first_ms,
    bodyKey: row.body_key,
    run: row.run,
    subject: row.subject,
  };
}
