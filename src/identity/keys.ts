import { timingSafeEqual } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import { EngineError, StartupError } from '../errors.ts';
import { hashKey, parseKey } from './key-format.ts';
import type { Principal } from './principal.ts';

/** A key's row is looked up by its id; its secret is compared in constant time. */
export interface KeyStore {
  /** @throws EngineError UNAUTHENTICATED for whatever is wrong with the key, with one text for all reasons */
  authenticate(key: string): Promise<Principal>;
  /** These principals as their keys are now, by their ids; one that was revoked, has expired or is no key's is left out. */
  refresh(principalIds: Iterable<string>): Promise<ReadonlyMap<string, Principal>>;
}

const NO_SUCH_HASH = new Uint8Array(32);

/** Reads keys from the database, on each call: a revoked key fails at once. */
export function createKeyStore(database: Database): KeyStore {
  return {
    async authenticate(key) {
      const parsed = parseKey(key);
      if (parsed === undefined) throw badKey();
      const row = await selectKeys(database.db).where('id', '=', parsed.id).executeTakeFirst();
      // an unknown id is compared too, so that it takes as long
      const isSame = timingSafeEqual(row?.hash ?? NO_SUCH_HASH, hashKey(key));
      if (row === undefined || !isSame || !row.is_live) throw badKey();
      return toPrincipal(row);
    },
    async refresh(principalIds) {
      const keyIds = [...principalIds].flatMap((id) => keyIdOf(id) ?? []);
      if (keyIds.length === 0) return new Map();
      const rows = await selectKeys(database.db).where(sql<boolean>`id = any(${keyIds}::text[])`).execute();
      return new Map(rows.filter(({ is_live }) => is_live).map((row) => [toPrincipal(row).id, toPrincipal(row)]));
    },
  };
}

export interface NewKey {
  readonly key: string;
  readonly accountId: string;
  readonly scopes: readonly string[];
  readonly description: string;
  readonly createdBy: string | null;
  readonly expiresAt: Date | null;
}

/** Stores the hash of a key. @returns the principal's id, `key_<id>` */
export async function insertKey(db: Kysely<EngineTables>, { key, ...row }: NewKey): Promise<string> {
  const parsed = parseKey(key);
  if (parsed === undefined) throw new Error('the key is not of the form ff_<id>_<secret>_<crc>');
  // by SQL of its own: an operator makes keys of other accounts, which the account guard refuses to a query builder
  await sql`
    insert into fanfare.api_key (id, account_id, hash, scopes, description, created_by, expires_at)
    values (${parsed.id}, ${row.accountId}, ${hashKey(key)}, ${[...row.scopes]}::text[], ${row.description}, ${row.createdBy}, ${row.expiresAt})
  `.execute(db);
  return principalId(parsed.id);
}

/**
 * Makes sure that the admin key is a live key of `acc_default` with these scopes and without an end. Another key of that
 * account with its id is replaced; one that was revoked is revived, because the settings, which name it again, are whose
 * word counts: to revoke it for good take it out of `ADMIN_API_KEY` first. Older admin keys stay valid until they are revoked.
 * @throws StartupError if the id is that of another account's key, which would stay with its account and gain these scopes
 */
export async function ensureAdminKey(database: Database, key: string, scopes: readonly string[]): Promise<void> {
  const parsed = parseKey(key);
  if (parsed === undefined) throw new Error('the admin key is not of the form ff_<id>_<secret>_<crc>');
  const { rows } = await sql<{ id: string }>`
    insert into fanfare.api_key as known (id, account_id, hash, scopes, description)
    values (${parsed.id}, 'acc_default', ${hashKey(key)}, ${[...scopes]}::text[], 'admin')
    on conflict (id) do update set hash = excluded.hash, scopes = excluded.scopes, expires_at = null, revoked_at = null
    where known.account_id = excluded.account_id
    returning id
  `.execute(database.db);
  if (rows.length > 0) return;
  throw new StartupError(
    'ADMIN_API_KEY: expected a key of the default account, found one of another account; make one with `npx fanfare key new`',
  );
}

const PRINCIPAL_PREFIX = 'key_';

/** `key_<id>`, as it stands in events and logs. */
export function principalId(keyId: string): string {
  return `${PRINCIPAL_PREFIX}${keyId}`;
}

/** The id of a principal's key; undefined for a principal that is no key. */
function keyIdOf(id: string): string | undefined {
  return id.startsWith(PRINCIPAL_PREFIX) ? id.slice(PRINCIPAL_PREFIX.length) : undefined;
}

function selectKeys(db: Kysely<EngineTables>) {
  return db
    .selectFrom('fanfare.api_key')
    .select(['id', 'account_id', 'hash', 'scopes', 'expires_at'])
    .select(sql<boolean>`revoked_at is null and (expires_at is null or expires_at > fanfare.now())`.as('is_live'));
}

function toPrincipal(row: { id: string; account_id: string; scopes: string[]; expires_at: Date | null }): Principal {
  return {
    id: principalId(row.id),
    accountId: row.account_id,
    scopes: new Set(row.scopes),
    narrowing: [],
    expiresAt: row.expires_at ?? undefined,
  };
}

/** What the holder of a key is told that was good before, and has ended meanwhile. */
export function endedKey(): EngineError {
  return new EngineError('UNAUTHENTICATED', 'the API key was revoked or has expired');
}

function badKey(): EngineError {
  return new EngineError(
    'UNAUTHENTICATED',
    'the API key is missing, wrong, expired or revoked; send "Authorization: Bearer ff_…"',
  );
}
