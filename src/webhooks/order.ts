import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { Tx } from '../outbox/transact.ts';
import type { DeliveryRecord } from './deliveries.ts';

/**
 * `WebhookOrdering` in the graph. PER_SUBJECT: within one subject each delivery waits until the one before it has ended, so that
 * first acceptances come strictly by position. It holds up no other subject.
 */
export const ORDERINGS = ['UNORDERED', 'PER_SUBJECT'] as const;

/** `WebhookOnExhausted` in the graph: what becomes of those that wait for a delivery that has used up its attempts. */
export const ON_EXHAUSTED = ['SKIP', 'BLOCK'] as const;

/** As a webhook's row keeps it; what is absent stays. */
export interface OrderColumns {
  readonly ordering?: (typeof ORDERINGS)[number];
  readonly on_exhausted?: (typeof ON_EXHAUSTED)[number];
}

/** As GraphQL has coerced it. */
export interface OrderInput {
  readonly ordering?: (typeof ORDERINGS)[number] | null | undefined;
  readonly onExhausted?: (typeof ON_EXHAUSTED)[number] | null | undefined;
}

export function orderColumns({ ordering, onExhausted }: OrderInput): OrderColumns {
  return { ...(ordering ? { ordering } : {}), ...(onExhausted ? { on_exhausted: onExhausted } : {}) };
}

/**
 * Makes open deliveries fit a webhook whose order was changed: those of one subject wait for each other from now on, or no
 * longer. What is under way ends as it ends.
 */
export async function reorderDeliveries(tx: Tx, webhookId: string): Promise<void> {
  await sql`select fanfare.reorder_webhook(${webhookId})`.execute(tx.db);
}

/**
 * Lets go what waits behind nothing: because what was before it was cancelled, or an order has begun. Ends and births wake
 * those behind them by themselves; this is the net.
 * @returns how many
 */
export async function wakeWaiting({ db }: Database): Promise<number> {
  const { rows } = await sql<{ woken: number }>`select fanfare.wake_waiting(null) as woken`.execute(db);
  return rows[0]?.woken ?? 0;
}

/** The id of the delivery that this one waits for; null if it waits for none. */
export async function readWaitedFor(
  { db }: Database,
  { webhook_id, subject, position, status }: DeliveryRecord,
): Promise<string | null> {
  if (status !== 'WAITING' || subject === null) return null;
  const first = await db
    .selectFrom('fanfare.delivery')
    .select('id')
    .where('webhook_id', '=', webhook_id)
    .where('subject', '=', subject)
    .where('position', '<', position)
    .orderBy('position')
    .limit(1)
    .executeTakeFirst();
  return first?.id ?? null;
}
