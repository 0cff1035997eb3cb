import { type Kysely, sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Tx } from '../outbox/transact.ts';
import { SealError, type Sealer } from './seal.ts';
import { headerPlace } from './sealed-headers.ts';
import { newSecret } from './sign.ts';

/** How long a secret signs along after it was rotated out, in seconds: a day. */
export const DEFAULT_GRACE_S = 86_400;
/** The longest, a week. */
export const MAX_GRACE_S = 604_800;

/** Live secrets of one webhook: each puts 48 bytes into the signature's header. */
const MAX_LIVE_SECRETS = 50;

/** Makes a secret for the webhook; only its sealed form is stored. @returns the secret, to be shown this once */
export async function addSecret(tx: Tx, sealer: Sealer, webhookId: string): Promise<string> {
  const secret = newSecret();
  await tx.db
    .insertInto('fanfare.webhook_secret')
    .values({
      account_id: tx.accountId,
      webhook_id: webhookId,
      sealed: sealer.seal(secret, webhookId),
      expires_at: null,
    })
    .execute();
  return secret;
}

export interface Rotation {
  readonly webhookId: string;
  /** How long earlier secrets sign along, in seconds; 0 ends them at once. One that ends sooner is not lengthened. */
  readonly graceSeconds: number;
}

/**
 * Makes a new secret, and ends those before it after a grace.
 * @throws EngineError BAD_INPUT for a grace out of bounds; CONFLICT if 50 are live already
 */
export async function rotateSecret(tx: Tx, sealer: Sealer, { webhookId, graceSeconds }: Rotation): Promise<string> {
  if (graceSeconds < 0 || graceSeconds > MAX_GRACE_S)
    throw new EngineError('BAD_INPUT', `"graceSeconds": expected 0 to ${MAX_GRACE_S}, found ${graceSeconds}`);
  await tx.db
    .updateTable('fanfare.webhook_secret')
    .set({ expires_at: sql<Date>`least(expires_at, fanfare.now() + ${graceSeconds} * interval '1 second')` })
    .where('account_id', '=', tx.accountId)
    .where('webhook_id', '=', webhookId)
    .execute();
  // after that, so that there is always room for one that ends the others at once
  await tx.db
    .deleteFrom('fanfare.webhook_secret')
    .where('account_id', '=', tx.accountId)
    .where('webhook_id', '=', webhookId)
    .where('expires_at', '<=', sql<Date>`fanfare.now()`)
    .execute();
  const { live } = await tx.db
    .selectFrom('fanfare.webhook_secret')
    .select(({ fn }) => fn.countAll<number>().as('live'))
    .where('account_id', '=', tx.accountId)
    .where('webhook_id', '=', webhookId)
    .executeTakeFirstOrThrow();
  if (Number(live) >= MAX_LIVE_SECRETS) {
    throw new EngineError(
      'CONFLICT',
      `the webhook has ${MAX_LIVE_SECRETS} live secrets; rotate again when the oldest has expired, or with "graceSeconds": 0`,
    );
  }
  return addSecret(tx, sealer, webhookId);
}

/** A live secret as it is stored. */
export interface SealedSecret {
  readonly webhook_id: string;
  readonly sealed: string;
}

/** The live secrets of these webhooks, newest first. */
export function readSealedSecrets(db: Kysely<EngineTables>, webhookIds: readonly string[]): Promise<SealedSecret[]> {
  return db
    .selectFrom('fanfare.webhook_secret')
    .select(['webhook_id', 'sealed'])
    .where('webhook_id', 'in', webhookIds)
    .where(({ eb, or }) => or([eb('expires_at', 'is', null), eb('expires_at', '>', sql<Date>`fanfare.now()`)]))
    .orderBy('id', 'desc')
    .execute();
}

/**
 * Seals anew what is sealed with the previous key, headers of webhooks too, so that it may be taken out of the settings. Safe beside rotations
 * and in several processes at once; what neither key opens is left as it is.
 * @returns how many there were
 */
export async function resealSecrets({ db }: Database, sealer: Sealer): Promise<number> {
  const rows = await db.selectFrom('fanfare.webhook_secret').select(['id', 'webhook_id', 'sealed']).execute();
  let resealed = await resealHeaders(db, sealer);
  for (const { id, webhook_id, sealed } of rows) {
    const fresh = sealAnew(sealer, sealed, webhook_id);
    if (fresh === undefined) continue;
    await db
      .updateTable('fanfare.webhook_secret')
      .set({ sealed: fresh })
      .where('id', '=', id)
      .where('sealed', '=', sealed)
      .execute();
    resealed++;
  }
  return resealed;
}

async function resealHeaders(db: Kysely<EngineTables>, sealer: Sealer): Promise<number> {
  const rows = await db
    .selectFrom('fanfare.webhook')
    .select(['id', 'sealed_headers as sealed'])
    .where('sealed_headers', 'is not', null)
    .execute();
  let resealed = 0;
  for (const { id, sealed } of rows) {
    const fresh = sealed === null ? undefined : sealAnew(sealer, sealed, headerPlace(id));
    if (fresh === undefined) continue;
    await db
      .updateTable('fanfare.webhook')
      .set({ sealed_headers: fresh })
      .where('id', '=', id)
      .where('sealed_headers', '=', sealed)
      .execute();
    resealed++;
  }
  return resealed;
}

function sealAnew(sealer: Sealer, sealed: string, place: string): string | undefined {
  try {
    return sealer.isStale(sealed) ? sealer.seal(sealer.open(sealed, place), place) : undefined;
  } catch (error) {
    if (error instanceof SealError) return undefined;
    throw error;
  }
}
