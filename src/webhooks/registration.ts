import { type Kysely, sql, type Updateable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { filterColumns } from '../outbox/filter.ts';
import { readHead } from '../outbox/read.ts';
import type { Tx } from '../outbox/transact.ts';
import { VersionConflict } from '../outbox/version-conflict.ts';
import { newId } from '../runtime/id.ts';
import type { HeaderChanges } from './custom-headers.ts';
import type { CheckedSelection } from './grants.ts';
import { reorderDeliveries } from './order.ts';
import { originOf } from './origin.ts';
import type { PaceColumns } from './pace.ts';
import { requireRoomAt, requireRoomFor, type WebhookQuota } from './quota.ts';
import { endReplaysOf, WEBHOOK_DELETED } from './replay.ts';
import type { Sealer } from './seal.ts';
import { reviseHeaders } from './sealed-headers.ts';
import { addSecret } from './secrets.ts';
import { isStorable } from './storable.ts';
import type { Webhook } from './webhook.ts';

/** Positions that the creating transaction looks back over; workers do the rest. */
const FIRST_BACKFILL = 1_000;

export interface NewWebhook {
  /** Checked by the guard. */
  readonly url: string;
  readonly selection: CheckedSelection;
  /** Events behind this position; undefined begins with the next event. */
  readonly startAfter: number | undefined;
  readonly description: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Checked by `checkPace`. */
  readonly pace: PaceColumns;
  /** Checked by `checkHeaders`. */
  readonly headers: HeaderChanges;
  readonly creator: Principal;
  readonly quota: WebhookQuota;
}

/**
 * Makes a webhook that gets each event behind `startAfter` exactly once: those that have a position now by the
 * backfill, all others by the stamp. The account's head stays locked until the commit, so that no event is in between.
 * @returns its row and its secret
 * @throws EngineError BAD_INPUT for headers that don't go together; CONFLICT for one webhook too many
 */
export async function createWebhook(
  tx: Tx,
  sealer: Sealer,
  input: NewWebhook,
): Promise<{ webhook: Webhook; secret: string }> {
  const id = newId('wh');
  const headers = reviseHeaders(sealer, { id, changes: input.headers });
  const head = await lockHead(tx);
  await requireRoomFor(tx, input.url, input.quota);
  const webhook = await tx.db
    .insertInto('fanfare.webhook')
    .values({
      id,
      account_id: tx.accountId,
      url: input.url,
      description: input.description,
      metadata: JSON.stringify(input.metadata),
      ...selectionColumns(input.selection),
      ...input.pace,
      ...headers,
      narrowing: JSON.stringify(input.creator.narrowing),
      live_after: head,
      backfilled_to: Math.min(input.startAfter ?? head, head),
      created_by: input.creator.id,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  await backfillWebhooks(tx.db, { webhookId: webhook.id, limit: FIRST_BACKFILL });
  return { webhook: await lockWebhook(tx, webhook.id), secret: await addSecret(tx, sealer, webhook.id) };
}

/**
 * Looks back for one webhook that began in the past, over at most `limit` positions.
 * @returns over how many; 0 if there was nothing to do
 */
export async function backfillWebhooks(
  db: Kysely<EngineTables>,
  { webhookId, limit }: { readonly webhookId?: string; readonly limit: number },
): Promise<number> {
  const { rows } = await sql<{ positions: number }>`
    select fanfare.backfill_webhooks(${webhookId ?? null}::text, ${limit}::int) as positions
  `.execute(db);
  return rows[0]?.positions ?? 0;
}

export interface WebhookTarget {
  readonly id: string;
  readonly expectedVersion: number | null | undefined;
}

/** What is to change; what is undefined stays. */
export interface WebhookChanges {
  readonly url?: string | undefined;
  readonly selection?: CheckedSelection | undefined;
  readonly description?: string | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly pace?: PaceColumns | undefined;
  readonly headers: HeaderChanges;
}

export interface WebhookUpdate {
  readonly target: WebhookTarget;
  /** Is given the webhook as it is, locked. */
  readonly decide: (before: Webhook) => WebhookChanges;
  readonly quota: WebhookQuota;
}

/**
 * Changes a webhook. Open deliveries of events that it no longer wants are cancelled; those that were never attempted
 * are rendered anew, with what it asks for now; what was attempted keeps its bytes. A new selection repairs a parked one.
 * Headers may not stay with another URL; those that are given repair a webhook whose headers could not be opened.
 * @throws VersionConflict; EngineError NOT_FOUND; CONFLICT for one webhook too many at its new origin; what `decide` and `reviseHeaders` throw
 */
export async function updateWebhook(
  tx: Tx,
  sealer: Sealer,
  { target: { id, expectedVersion }, decide, quota }: WebhookUpdate,
): Promise<Webhook> {
  await lockHead(tx);
  const before = await lockWebhook(tx, id);
  requireVersion(before, expectedVersion);
  const { url, selection, description, metadata, pace, headers: changes } = decide(before);
  const movesTo = url === before.url ? undefined : url;
  if (movesTo !== undefined && originOf(movesTo) !== originOf(before.url)) await requireRoomAt(tx, movesTo, quota);
  const headers = reviseHeaders(sealer, { id, before, changes, movesTo });
  const after = await writeWebhook(tx, id, {
    ...(url === undefined ? {} : { url, ...afresh(before) }),
    ...pace,
    ...(headers === undefined ? {} : { ...headers, parked_reason: null }),
    ...(selection === undefined ? {} : { ...selectionColumns(selection), parked_reason: null }),
    ...(description === undefined ? {} : { description }),
    ...(metadata === undefined ? {} : { metadata: JSON.stringify(metadata) }),
  });
  if (selection !== undefined) await dropUnwanted(tx, id);
  if (after.ordering !== before.ordering || after.on_exhausted !== before.on_exhausted) await reorderDeliveries(tx, id);
  return after;
}

/** Ends a webhook: its open deliveries and its replays are cancelled, its secrets are gone, the record of what was sent stays. */
export async function deleteWebhook(tx: Tx, { id, expectedVersion }: WebhookTarget): Promise<void> {
  await lockHead(tx);
  requireVersion(await lockWebhook(tx, id), expectedVersion);
  await cancelDeliveries(tx, { webhookId: id, unwantedOnly: false, reason: WEBHOOK_DELETED });
  await endReplaysOf(tx, id);
  // a killed process ends no turn, and nobody takes over one of what is gone
  await sql`delete from fanfare.turn where webhook_id = ${id}`.execute(tx.db);
  await tx.db.deleteFrom('fanfare.webhook').where('account_id', '=', tx.accountId).where('id', '=', id).execute();
}

/**
 * Stops sending; deliveries are born on and wait, within retention. What is under way ends as it ends.
 * @throws EngineError CONFLICT for a disabled webhook
 */
export async function pauseWebhook(tx: Tx, id: string): Promise<Webhook> {
  const webhook = await lockWebhook(tx, id);
  if (webhook.status === 'DISABLED') throw new EngineError('CONFLICT', 'the webhook is disabled; resume it first');
  return webhook.status === 'PAUSED' ? webhook : writeWebhook(tx, id, { status: 'PAUSED' });
}

/** Sends again, at once, what has waited first and in the order of the log. */
export async function resumeWebhook(tx: Tx, id: string): Promise<Webhook> {
  const webhook = await lockWebhook(tx, id);
  if (webhook.status === 'ACTIVE' && webhook.failures === 0 && webhook.holds === 0) return webhook;
  return writeWebhook(tx, id, { status: 'ACTIVE', disabled_reason: null, ...afresh(webhook) });
}

/** The account's webhook, locked until the end of the transaction. @throws EngineError NOT_FOUND */
export async function lockWebhook(tx: Tx, id: string): Promise<Webhook> {
  const webhook = await findAndLockWebhook(tx, id);
  if (webhook === undefined) throw new EngineError('NOT_FOUND', `there is no webhook with the id "${id.slice(0, 80)}"`);
  return webhook;
}

/** The same, or undefined if the account has no such webhook. */
export async function findAndLockWebhook(tx: Tx, id: string): Promise<Webhook | undefined> {
  if (!isStorable(id)) return undefined;
  return tx.db
    .selectFrom('fanfare.webhook')
    .selectAll()
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst();
}

/**
 * Locks the account's head against the stamp, which locks it before it matches webhooks.
 * @returns the position of the last event that has one
 */
async function lockHead(tx: Tx): Promise<number> {
  await sql`
    insert into fanfare.head (account_id, position) values (${tx.accountId}, 0)
    on conflict (account_id) do update set position = fanfare.head.position
  `.execute(tx.db);
  return readHead(tx.db, tx.accountId);
}

function selectionColumns({ eventTypes, document, variables, filter, scopes }: CheckedSelection) {
  return {
    event_types: eventTypes && [...eventTypes],
    document,
    variables: JSON.stringify(variables),
    scopes: [...scopes],
    ...filterColumns(filter), // of its own document; its grants' filters come on top
  };
}

/** As if nothing were known against it; but what was told of it is still to be taken back, by its first success. */
function afresh({ alarm }: Webhook): Pick<Webhook, 'failures' | 'holds' | 'held_until' | 'failing_since' | 'alarm'> {
  return { failures: 0, holds: 0, held_until: null, failing_since: null, alarm: alarm === null ? null : 'OLD' };
}

function requireVersion({ id, version }: Webhook, expected: number | null | undefined): void {
  if (expected === null || expected === undefined || expected === version) return;
  throw new VersionConflict({ id, expectedVersion: expected, currentVersion: version });
}

function writeWebhook(tx: Tx, id: string, changes: Updateable<EngineTables['fanfare.webhook']>): Promise<Webhook> {
  return tx.db
    .updateTable('fanfare.webhook')
    .set(changes)
    .set({ version: sql<number>`version + 1`, updated_at: sql<Date>`fanfare.now()` })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

async function dropUnwanted(tx: Tx, id: string): Promise<void> {
  await cancelDeliveries(tx, {
    webhookId: id,
    unwantedOnly: true,
    reason: 'the webhook no longer asks for this event',
  });
  await tx.db
    .updateTable('fanfare.delivery')
    .set({ body_key: null })
    .where('account_id', '=', tx.accountId)
    .where('webhook_id', '=', id)
    .where('attempts', '=', 0)
    .where('seq', '>', 0)
    .where('body_key', 'is not', null)
    .where(sql<boolean>`(lease_until is null or lease_until <= clock_timestamp())`)
    .execute();
}

interface Cancellation {
  readonly webhookId: string;
  readonly unwantedOnly: boolean;
  readonly reason: string;
}

async function cancelDeliveries(tx: Tx, { webhookId, unwantedOnly, reason }: Cancellation): Promise<void> {
  await sql`select fanfare.cancel_deliveries(${tx.accountId}, ${webhookId}, ${unwantedOnly}, ${reason})`.execute(tx.db);
}
