import { type Kysely, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { Tx } from '../outbox/transact.ts';
import { WEBHOOK_DELETED } from './replay.ts';

/** Cancelled with the webhook itself: a batch that holds up nobody. */
const AT_ONCE = 1_000;

/**
 * Deletes a webhook's row, and what is only of use with it. Its open deliveries count as cancelled from then on; the first of them are
 * recorded so at once, the others by {@link cancelDeleted}.
 */
export async function removeWebhook(tx: Tx, id: string): Promise<void> {
  await tx.db.deleteFrom('fanfare.webhook').where('account_id', '=', tx.accountId).where('id', '=', id).execute();
  // a killed process ends no turn, and nobody takes over one of what is gone
  await sql`delete from fanfare.turn where webhook_id = ${id}`.execute(tx.db);
  await sql`insert into fanfare.deleted_webhook (id, account_id) values (${id}, ${tx.accountId})`.execute(tx.db);
  await cancelDeleted(tx.db, { webhookId: id, limit: AT_ONCE });
}

/**
 * Records as cancelled what deleted webhooks still have open: of one of them, or of whichever is next.
 * @returns how many; `limit` if there may be more
 */
export async function cancelDeleted(
  db: Kysely<EngineTables>,
  { webhookId, limit }: { readonly webhookId?: string; readonly limit: number },
): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select fanfare.cancel_deleted(${webhookId ?? null}::text, ${WEBHOOK_DELETED}, ${limit}::int) as count
  `.execute(db);
  return rows[0]?.count ?? 0;
}
