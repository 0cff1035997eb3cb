import { type Selectable, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Tx } from '../outbox/transact.ts';
import { newId } from '../runtime/id.ts';
import { findAndLockWebhook, lockWebhook } from './registration.ts';
import { isStorable } from './storable.ts';
import type { Webhook } from './webhook.ts';

/** A delivery, open or finished, as it is shown. */
export type DeliveryRecord = Selectable<EngineTables['fanfare.delivery_record']>;

/**
 * Puts a signed `fanfare.ping` on the way, as a delivery of its own: attempted once, by a worker, and seen like any
 * other. It has no event, and so neither `fanfare-event-id` nor `fanfare-cursor`.
 * @throws EngineError NOT_FOUND; CONFLICT unless the webhook is being sent to
 */
export async function pingWebhook(tx: Tx, webhookId: string): Promise<DeliveryRecord> {
  const webhook = await lockWebhook(tx, webhookId);
  requireSending(webhook);
  const { now } = await tx.db
    .selectFrom('fanfare.webhook')
    .select(sql<Date>`date_trunc('milliseconds', fanfare.now())`.as('now'))
    .where('account_id', '=', tx.accountId)
    .where('id', '=', webhookId)
    .executeTakeFirstOrThrow();
  const id = newId('dlv', now.getTime());
  const body = JSON.stringify({ type: 'fanfare.ping', timestamp: now.toISOString(), data: { webhookId } });
  await tx.db.insertInto('fanfare.body').values({ seq: 0, key: id, occurred_at: now, body }).execute();
  await tx.db
    .insertInto('fanfare.delivery')
    .values({
      account_id: tx.accountId,
      id,
      webhook_id: webhookId,
      seq: 0,
      position: 0,
      event_id: null,
      next_at: now,
      lease_until: null,
      body_key: id,
      born_at: now,
    })
    .execute();
  return readDelivery(tx, id);
}

/**
 * Sends a delivery again: an open one now, a finished one with a whole new schedule. It keeps its id, and its bytes as long as they are
 * stored; what could not be rendered, or was deleted a day after it had succeeded, is rendered anew. One under way, or due, is left as
 * it is.
 * @throws EngineError NOT_FOUND; CONFLICT if its webhook is gone, can't be sent to or no longer wants the event, or the
 * event is past retention
 */
export async function retryDelivery(tx: Tx, id: string): Promise<DeliveryRecord> {
  const { webhook_id: webhookId, finished_at: finishedAt, status } = await readDelivery(tx, id);
  const webhook = await findAndLockWebhook(tx, webhookId);
  if (webhook === undefined) throw new EngineError('CONFLICT', 'the webhook of this delivery was deleted');
  requireSending(webhook);
  if (status === 'WAITING') throw new EngineError('CONFLICT', 'it waits for an earlier delivery of its subject');
  if (finishedAt === null) await hasten(tx, id);
  else await reopen(tx, id);
  return readDelivery(tx, id);
}

function requireSending({ status, parked_reason }: Webhook): void {
  if (status !== 'ACTIVE') throw new EngineError('CONFLICT', `the webhook is ${status.toLowerCase()}; resume it first`);
  if (parked_reason !== null) throw new EngineError('CONFLICT', `the webhook needs repair first: ${parked_reason}`);
}

async function hasten(tx: Tx, id: string): Promise<void> {
  await tx.db
    .updateTable('fanfare.delivery')
    .set({
      next_at: sql<Date>`least(next_at, fanfare.now())`,
      // one that blocks its subject has used up its schedule, and begins it anew
      step: sql<number>`case when is_blocking then 0 else step end`,
      began_at: sql<Date>`case when is_blocking then null else began_at end`,
      is_blocking: false,
    })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .where(sql<boolean>`(lease_until is null or lease_until <= clock_timestamp())`)
    .execute();
}

/** Moves the record back among the open ones, if the webhook may still have the event. */
async function reopen(tx: Tx, id: string): Promise<void> {
  const { rows } = await sql<{ id: string }>`
    with gone as (
      delete from fanfare.delivery_done d
      where d.account_id = ${tx.accountId} and d.id = ${id}
        and (case when d.seq = 0 then exists (select from fanfare.body b where b.seq = 0 and b.key = d.body_key)
             else exists (select from fanfare.log l join fanfare.event e on e.seq = l.seq join fanfare.webhook w on w.id = d.webhook_id
                          where l.seq = d.seq and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed)) end)
      returning d.*
    )
    insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, generation, attempts, body_key, born_at)
    select account_id, id, webhook_id, seq, position, event_id, fanfare.now(), generation, attempts, body_key, born_at from gone
    returning id
  `.execute(tx.db);
  if (rows.length === 0) {
    throw new EngineError('CONFLICT', 'the event is past retention, or the webhook no longer asks for it');
  }
}

async function readDelivery(tx: Tx, id: string): Promise<DeliveryRecord> {
  const query = tx.db
    .selectFrom('fanfare.delivery_record')
    .selectAll()
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id);
  const row = isStorable(id) ? await query.executeTakeFirst() : undefined;
  if (row === undefined) throw new EngineError('NOT_FOUND', `there is no delivery with the id "${id.slice(0, 80)}"`);
  return row;
}
