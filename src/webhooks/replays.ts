import { sql } from 'kysely';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import type { EventFilter } from '../outbox/filter.ts';
import { readHead } from '../outbox/read.ts';
import type { Tx } from '../outbox/transact.ts';
import { newId } from '../runtime/id.ts';
import { findAndLockWebhook, lockWebhook } from './registration.ts';
import { type Replay, readReplay, WEBHOOK_DELETED } from './replay.ts';
import type { ReplayRange } from './replay-range.ts';
import { requireGrantsOf } from './webhook.ts';

/** Replays of one webhook that are looking through the log at the same time. */
export const MAX_LOOKING = 3;
/** Of one account that are not finished: those that only wait for retries count, too. */
export const MAX_UNFINISHED = 100;
/** By it a resumed replay knows the deliveries that were cancelled with it. */
const CANCELLED = 'the replay was cancelled';

export interface NewReplay {
  readonly webhookId: string;
  /** Checked by `resolveRange`. */
  readonly range: ReplayRange;
  /** Checked by `toStoredFilter`. On top of what the webhook itself asks for. */
  readonly filter: EventFilter;
  /** Only what has neither arrived nor is on its way. */
  readonly missing: boolean;
  /** First attempts a second; null: as fast as the webhook takes them. */
  readonly ratePerSecond: number | null;
  readonly creator: Principal;
}

/**
 * Begins a replay; workers do the rest.
 * @throws EngineError NOT_FOUND; FORBIDDEN if the creator may not see all that the webhook sees; CONFLICT for one too many
 */
export async function createReplay(tx: Tx, input: NewReplay): Promise<Replay> {
  const { webhookId, range, filter, missing, ratePerSecond, creator } = input;
  await lockAccount(tx);
  requireGrantsOf(creator, await lockWebhook(tx, webhookId));
  await requireRoom(tx, webhookId);
  const { after, until = await readHead(tx.db, tx.accountId) } = range;
  const id = newId('rpl');
  await tx.db
    .insertInto('fanfare.replay')
    .values({
      id,
      account_id: tx.accountId,
      webhook_id: webhookId,
      after_position: after,
      to_position: Math.max(until, after), // nothing has happened since then
      looked_to: after,
      filter: JSON.stringify(filter),
      missing,
      rate_limit: ratePerSecond,
      created_by: creator.id,
    })
    .execute();
  return readReplay(tx, id);
}

/**
 * Stops a replay and ends its open deliveries, but for those that are being sent.
 * @throws EngineError NOT_FOUND; CONFLICT for one that is done
 */
export async function cancelReplay(tx: Tx, id: string): Promise<Replay> {
  const { webhook_id: webhookId } = await readReplay(tx, id);
  await findAndLockWebhook(tx, webhookId); // before its deliveries, as whoever changes it
  const status = await lockReplay(tx, id);
  if (status === 'DONE') throw new EngineError('CONFLICT', 'the replay is done; there is nothing to cancel');
  if (status === 'RUNNING') {
    await writeStatus(tx, id, { status: 'CANCELLED', reason: CANCELLED });
    await sql`select fanfare.cancel_run(${tx.accountId}, ${id}, ${CANCELLED})`.execute(tx.db);
  }
  return readReplay(tx, id);
}

/**
 * Lets a cancelled replay go on where it was: its cancelled deliveries are opened again, and it looks on from there.
 * @throws EngineError NOT_FOUND; FORBIDDEN as at the creation; CONFLICT for one that is done, whose webhook was deleted, or for one
 * too many
 */
export async function resumeReplay(tx: Tx, principal: Principal, id: string): Promise<Replay> {
  const { webhook_id: webhookId } = await readReplay(tx, id);
  await lockAccount(tx);
  const webhook = await findAndLockWebhook(tx, webhookId);
  if (webhook === undefined) throw new EngineError('CONFLICT', WEBHOOK_DELETED);
  requireGrantsOf(principal, webhook);
  const status = await lockReplay(tx, id);
  if (status === 'DONE') throw new EngineError('CONFLICT', 'the replay is done; begin another');
  if (status === 'CANCELLED') {
    await requireRoom(tx, webhookId, id);
    await writeStatus(tx, id, { status: 'RUNNING', reason: null });
    await sql`select fanfare.reopen_run(${tx.accountId}, ${id}, ${CANCELLED})`.execute(tx.db);
  }
  return readReplay(tx, id);
}

/** Holds it against the step, which would otherwise read it as it was. */
async function lockReplay(tx: Tx, id: string): Promise<Replay['status']> {
  const { status } = await tx.db
    .selectFrom('fanfare.replay')
    .select('status')
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirstOrThrow();
  return status;
}

/** There is something to see to again. */
async function writeStatus(tx: Tx, id: string, change: Pick<Replay, 'status' | 'reason'>): Promise<void> {
  await tx.db
    .updateTable('fanfare.replay')
    .set(change)
    .set({ finished_at: null, rest_ms: 0, next_step_at: sql<Date>`fanfare.now()` })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .execute();
}

/**
 * Against other replays that begin or go on, of whichever webhook, until the commit: they are counted together. Before the webhook.
 * Not the head, which would hold up the account's events while a run is opened again.
 */
async function lockAccount(tx: Tx): Promise<void> {
  await tx.db.selectFrom('fanfare.account').select('id').where('id', '=', tx.accountId).forNoKeyUpdate().execute();
}

/** For one that begins, or for this one, which goes on. The account must be locked. */
async function requireRoom(tx: Tx, webhookId: string, id?: string): Promise<void> {
  const { looking, unfinished } = await tx.db
    .selectFrom('fanfare.replay')
    .select([
      sql<number>`count(*)::int`.as('unfinished'),
      sql<number>`(count(*) filter (where webhook_id = ${webhookId} and status = 'RUNNING' and looked_to < to_position))::int`.as(
        'looking',
      ),
    ])
    .where('account_id', '=', tx.accountId)
    .where('finished_at', 'is', null)
    .where('id', '!=', id ?? '')
    .executeTakeFirstOrThrow();
  if (looking >= MAX_LOOKING)
    throw new EngineError(
      'CONFLICT',
      `the webhook has ${looking} replays that are running, the most there may be; cancel one, or wait until one has looked at all of its range`,
    );
  if (unfinished >= MAX_UNFINISHED)
    throw new EngineError(
      'CONFLICT',
      `the account has ${unfinished} replays that are not finished, the most there may be; cancel some`,
    );
}
