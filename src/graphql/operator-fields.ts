import { sql } from 'kysely';
import { EngineError } from '../errors.ts';
import { makeKey } from '../identity/key-format.ts';
import { insertKey } from '../identity/keys.ts';
import { ENGINE_SCOPES } from '../identity/principal.ts';
import type { Tx } from '../outbox/transact.ts';
import { newId } from '../runtime/id.ts';
import type { EngineBuilder } from './builder.ts';
import type { EngineContext } from './context.ts';
import { registryOf } from './registry.ts';
import { accountRef } from './viewer.ts';

/** Adds what operators do: accounts, keys, and a look at events that could not be stamped. */
export function addOperatorFields(builder: EngineBuilder): void {
  addAccountCreate(builder);
  addKeyChanges(builder);
  addParkedEvents(builder);
}

function addAccountCreate(builder: EngineBuilder): void {
  builder.mutationField('accountCreate', (t) =>
    t.change({
      scope: 'operator',
      description: 'Makes an account. It has no key yet: `apiKeyCreate(accountId:)`.',
      args: { name: t.arg.string({ required: true, description: '1 to 200 characters.' }) },
      success: { account: accountRef(builder) },
      run: async (tx, { name }) => {
        if (name.length < 1) throw new EngineError('BAD_INPUT', '"name" must have 1 to 200 characters');
        return { account: await insertAccount(tx, checkText('name', name)) };
      },
    }),
  );
}

/** An account's own row has no `account_id`: this table is not one of the guarded. */
async function insertAccount(tx: Tx, name: string) {
  const id = newId('acc');
  return tx.db
    .insertInto('fanfare.account')
    .values(({ fn, val }) => ({ id, name, shard: fn('fanfare.shard_of', [val(id)]) }))
    .returningAll()
    .executeTakeFirstOrThrow();
}

function addKeyChanges(builder: EngineBuilder): void {
  const key = builder.objectRef<{
    readonly id: string;
    readonly scopes: readonly string[];
    readonly description: string;
  }>('ApiKey');
  key.implement({
    description: 'A key, less its secret.',
    fields: (t) => ({
      id: t.exposeID('id', { description: '`key_…`, as it stands in `actor`.' }),
      scopes: t.stringList({ resolve: ({ scopes }) => [...scopes] }),
      description: t.exposeString('description'),
    }),
  });
  builder.mutationField('apiKeyCreate', (t) =>
    t.change({
      scope: 'keys:write',
      description:
        'Makes a key with some of the scopes that the caller has. Operators may make keys of other accounts.',
      args: {
        scopes: t.arg.stringList({ required: true, description: 'At least one.' }),
        description: t.arg.string({ description: 'At most 200 characters.' }),
        accountId: t.arg.id({ description: "Operators only. Left out: the caller's account." }),
        expiresAt: t.arg({ type: 'DateTime', description: 'When it ends by itself; left out: never.' }),
      },
      success: {
        apiKey: key,
        secret: { type: 'String', secret: true, nullable: true, description: 'The key itself, shown this once.' },
      },
      run: async (tx, args, context) => {
        const scopes = checkScopes(builder, context, args.scopes);
        const accountId = await targetAccount(tx, context, args.accountId);
        const secret = makeKey();
        const description = checkText('description', args.description ?? '');
        const id = await insertKey(tx.db, {
          key: secret,
          accountId,
          scopes,
          description,
          createdBy: context.principal.id,
          expiresAt: checkEnd(args.expiresAt, context.engine.clock.now()),
        });
        return { apiKey: { id, scopes, description }, secret };
      },
    }),
  );
  builder.mutationField('apiKeyRevoke', (t) =>
    t.change({
      scope: 'keys:write',
      description:
        'Ends a key at once: its calls fail, its streams end, its sockets close. Webhooks keep their own grants. Operators may end keys of other accounts.',
      args: {
        id: t.arg.id({ required: true, description: '`key_…`, with no scope that the caller lacks.' }),
        accountId: t.arg.id({ description: "Operators only. Left out: the caller's account." }),
      },
      success: { id: 'ID' },
      run: async (tx, { id, accountId }, context) => {
        const mayRevoke = (scope: string) => context.principal.scopes.has(scope) || !scopesOf(builder).has(scope);
        await revokeKey(tx, { id, accountId: await targetAccount(tx, context, accountId) }, mayRevoke);
        return { id };
      },
      committed: ({ engine }) => engine.keysChanged(),
    }),
  );
}

/** The engine's and the domain's: what else a key has from an earlier version of the domain allows nothing. */
function scopesOf(builder: EngineBuilder): ReadonlySet<string> {
  return new Set([...ENGINE_SCOPES, ...registryOf(builder).scopes]);
}

/**
 * Ends a key, by SQL of its own: operators end keys of other accounts, which the account guard refuses to a query builder.
 * @throws EngineError NOT_FOUND; FORBIDDEN if `mayRevoke` refuses one of its scopes
 */
async function revokeKey(
  tx: Tx,
  { id, accountId }: { readonly id: string; readonly accountId: string },
  mayRevoke: (scope: string) => boolean,
): Promise<void> {
  const keyId = /^(?:key_)?([0-9A-Za-z]+)$/.exec(id)?.[1] ?? '';
  const { rows } = await sql<{ scopes: string[] }>`
    select scopes from fanfare.api_key where account_id = ${accountId} and id = ${keyId} for update
  `.execute(tx.db);
  const [found] = rows;
  if (found === undefined) throw new EngineError('NOT_FOUND', `there is no key "${id.slice(0, 80)}"`);
  const missing = found.scopes.find((scope) => !mayRevoke(scope));
  if (missing !== undefined)
    throw new EngineError('FORBIDDEN', `this key has the scope "${missing}", which the calling key does not have`);
  await sql`
    update fanfare.api_key set revoked_at = fanfare.now() where account_id = ${accountId} and id = ${keyId}
  `.execute(tx.db);
}

/** @throws EngineError BAD_INPUT for what is over 200 characters or can't be stored */
function checkText(name: string, text: string): string {
  if (text.length > 200)
    throw new EngineError('BAD_INPUT', `"${name}" has ${text.length} characters; at most 200 are allowed`);
  if (text.isWellFormed() && !text.includes('\0')) return text;
  throw new EngineError('BAD_INPUT', `"${name}" has a character that can't be stored: U+0000 or half a surrogate pair`);
}

/** @throws EngineError BAD_INPUT for a moment that is past, or beyond what ISO 8601 writes with four digits */
function checkEnd(expiresAt: Date | null | undefined, nowMs: number): Date | null {
  if (expiresAt === null || expiresAt === undefined) return null;
  if (expiresAt.getTime() <= nowMs) throw new EngineError('BAD_INPUT', '"expiresAt" is in the past');
  if (expiresAt.getUTCFullYear() > 9_999) throw new EngineError('BAD_INPUT', '"expiresAt" is beyond the year 9999');
  return expiresAt;
}

function checkScopes(builder: EngineBuilder, { principal }: EngineContext, scopes: readonly string[]): string[] {
  const known = scopesOf(builder);
  if (scopes.length === 0) throw new EngineError('BAD_INPUT', '"scopes" needs at least one scope');
  for (const scope of scopes) {
    if (!known.has(scope))
      throw new EngineError(
        'BAD_INPUT',
        `"${scope.slice(0, 60)}" is not a scope; expected some of: ${[...known].sort().join(', ')}`,
      );
    if (!principal.scopes.has(scope))
      throw new EngineError('FORBIDDEN', `a key can't grant the scope "${scope}", which it does not have`);
  }
  return [...new Set(scopes)].sort();
}

async function targetAccount(
  tx: Tx,
  { principal }: EngineContext,
  accountId: string | null | undefined,
): Promise<string> {
  if (accountId === null || accountId === undefined || accountId === tx.accountId) return tx.accountId;
  const known =
    principal.scopes.has('operator') && !accountId.includes('\0')
      ? await tx.db.selectFrom('fanfare.account').select('id').where('id', '=', accountId).executeTakeFirst()
      : undefined;
  if (known === undefined) throw new EngineError('NOT_FOUND', `there is no account "${accountId}"`);
  return known.id;
}

function addParkedEvents(builder: EngineBuilder): void {
  const parked = builder.objectRef<{
    event_id: string;
    account_id: string;
    name: string;
    reason: string;
    parked_at: Date;
    payload: unknown;
  }>('ParkedEvent');
  parked.implement({
    description:
      'An event that was written through SQL with a payload that breaks its schema. It has no position, and nobody gets it.',
    fields: (t) => ({
      id: t.exposeID('event_id'),
      accountId: t.exposeID('account_id'),
      name: t.exposeString('name'),
      reason: t.exposeString('reason', { description: 'What is wrong with it.' }),
      parkedAt: t.field({ type: 'DateTime', resolve: ({ parked_at }) => parked_at }),
      payload: t.field({ type: 'JSON', nullable: true, resolve: ({ payload }) => payload }),
    }),
  });
  builder.queryField('parkedEvents', (t) =>
    t.field({
      type: [parked],
      scope: 'operator',
      description: 'Of all accounts, the newest first.',
      args: { first: t.arg.int({ description: 'At most 100.', defaultValue: 50 }) },
      resolve: (_root, { first }, { engine }) =>
        engine.database.db
          .selectFrom('fanfare.parked as p')
          .leftJoin('fanfare.event as e', 'e.seq', 'p.seq')
          .select(['p.event_id', 'p.account_id', 'p.name', 'p.reason', 'p.parked_at', 'e.payload'])
          .orderBy('p.seq', 'desc')
          .limit(Math.min(Math.max(first ?? 50, 0), 100))
          .execute(),
    }),
  );
}
