import type { Selectable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Tx } from '../outbox/transact.ts';
import { isStorable } from './storable.ts';

/**
 * A replay: a range of the log on its way to a webhook once more, as deliveries of a run of their own. *RUNNING*: it looks through
 * the range, oldest first, and gives birth to deliveries where there is room; it does not end before they have. *DONE*: it has
 * looked at all, and all of its deliveries are finished. *CANCELLED*, by somebody or because the webhook was deleted: what was not being
 * sent is cancelled, too; leaves by `deliveriesReplayResume`, unless the webhook was deleted. While the webhook is paused,
 * disabled, held or parked a replay waits, with a few deliveries.
 */
export type Replay = Selectable<EngineTables['fanfare.replay_state']>;

/** `ReplayStatus` in the graph. */
export const REPLAY_STATUSES = ['RUNNING', 'DONE', 'CANCELLED'] as const;

/** The reason of replays and deliveries of a webhook that is gone. */
export const WEBHOOK_DELETED = 'the webhook was deleted';

/** The account's replay, with its counts. @throws EngineError NOT_FOUND */
export async function readReplay({ db, accountId }: Pick<Tx, 'db' | 'accountId'>, id: string): Promise<Replay> {
  const query = db
    .selectFrom('fanfare.replay_state')
    .selectAll()
    .where('account_id', '=', accountId)
    .where('id', '=', id);
  const row = isStorable(id) ? await query.executeTakeFirst() : undefined;
  if (row === undefined) throw new EngineError('NOT_FOUND', `there is no replay with the id "${id.slice(0, 80)}"`);
  return row;
}

/** Stops the replays of a webhook that is being deleted, whose deliveries are cancelled with it. */
export async function endReplaysOf(tx: Tx, webhookId: string): Promise<void> {
  await tx.db
    .updateTable('fanfare.replay')
    .set({ status: 'CANCELLED', reason: WEBHOOK_DELETED })
    .where('account_id', '=', tx.accountId)
    .where('webhook_id', '=', webhookId)
    .where('status', '=', 'RUNNING')
    .execute();
}
