import { EngineError } from '../errors.ts';
import type { Tx } from '../outbox/transact.ts';
import { originOf } from './origin.ts';

/** How many webhooks there may be. */
export interface WebhookQuota {
  /** Of one account. @default 1_000 */
  readonly perAccount: number;
  /** Of one account at one origin. @default 20 */
  readonly perOrigin: number;
}

export const DEFAULT_QUOTA: WebhookQuota = { perAccount: 1_000, perOrigin: 20 };

/**
 * Whether the account may have one more webhook, at this URL. The account's head must be locked: then nobody else adds one before the commit.
 * @throws EngineError CONFLICT
 */
export async function requireRoomFor(tx: Tx, url: string, quota: WebhookQuota): Promise<void> {
  const { count } = await tx.db
    .selectFrom('fanfare.webhook')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('account_id', '=', tx.accountId)
    .executeTakeFirstOrThrow();
  if (Number(count) >= quota.perAccount) {
    throw new EngineError('CONFLICT', `the account has ${count} webhooks, the most there may be; delete one`);
  }
  if (Number(count) >= quota.perOrigin) await requireRoomAt(tx, url, quota);
}

/**
 * Whether the account may have one more webhook at the origin of this URL. The account's head must be locked.
 * @throws EngineError CONFLICT
 */
export async function requireRoomAt(tx: Tx, url: string, { perOrigin }: WebhookQuota): Promise<void> {
  // parsed here: one origin has many spellings, and this is rare
  const rows = await tx.db.selectFrom('fanfare.webhook').select('url').where('account_id', '=', tx.accountId).execute();
  const origin = originOf(url);
  const count = rows.filter((row) => originOf(row.url) === origin).length;
  if (count < perOrigin) return;
  throw new EngineError(
    'CONFLICT',
    `the account has ${count} webhooks at ${origin}, the most there may be; delete one, or let one webhook ask for more`,
  );
}
