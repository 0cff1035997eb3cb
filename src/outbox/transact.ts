import { type Kysely, type Selectable, sql, type Transaction } from 'kysely';
import type { z } from 'zod';
import { AccountGuard } from '../database/account-guard.ts';
import type { Database } from '../database/connect.ts';
import { isDatabaseGone, sqlState } from '../database/faults.ts';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { EventDefinition, EventKind } from './event.ts';
import { VersionConflict } from './version-conflict.ts';

/** On whose behalf a change is made; kept with each of its events. */
export interface Author {
  readonly accountId: string;
  /** The key or token that asked, `key_…`; null if no principal did. */
  readonly actor: string | null;
  readonly requestId: string | null;
  /** The event that this change answers, if any. */
  readonly causedBy: string | null;
}

/** What `emit` is given beside the event's definition. */
export type Emission<Payload extends z.ZodRawShape, Kind extends EventKind> = {
  readonly subjectId: string;
  readonly payload: z.infer<z.ZodObject<Payload>>;
  /** The event that this one follows from, such as one emitted before in the same change. @default the author's */
  readonly causedBy?: string | undefined;
} & (Kind extends 'update' ? { readonly changed: readonly string[] } : { readonly changed?: undefined });

/** A captured event. Its position is known only after the commit. */
export interface Emitted {
  readonly id: string;
  readonly subjectVersion: number;
}

/**
 * One transaction of one account: the only hand that writes. It can't be kept beyond the function that got it.
 * @typeParam Tables the domain's tables
 */
export interface Tx<Tables = unknown> {
  /** Statements in this transaction; each on an account's table must name the account. */
  readonly db: Transaction<Tables & EngineTables>;
  readonly accountId: string;
  readonly author: Author;
  /** The last event captured so far. */
  readonly lastEventId: string | undefined;
  /** A new id with the entity's prefix: `newId('Order')` gives `order_…`. */
  newId(entity: string): string;
  /**
   * Captures an event in this transaction: it is sent if this commits, and never if it does not.
   * Gives undefined for an update that changed nothing. Takes the subject's row lock until the end.
   * @throws Error if the payload breaks its schema (a bug of the caller), or is over 256 KiB
   */
  emit<Payload extends z.ZodRawShape, Kind extends EventKind>(
    event: EventDefinition<Payload, Kind>,
    emission: Emission<Payload, Kind>,
  ): Promise<Emitted | undefined>;
  /**
   * A row of the account by its id, locked until the end of the transaction.
   * @throws EngineError NOT_FOUND, also where the row is another account's
   */
  lockRow<Table extends keyof Tables & string>(table: Table, id: string): Promise<Selectable<Tables[Table]>>;
  /**
   * Refuses with `VersionConflict` unless the subject's version is `expected`; null or undefined expects nothing.
   * Holds the subject's row until the end, so that the version can't move meanwhile. Call it behind `lockRow`: where
   * each change locks in that order, none waits for another crosswise.
   * @returns the version as it is: the subject's next event has one more; 0 before its first
   */
  expectVersion(entity: string, id: string, expected: number | null | undefined): Promise<number>;
}

export interface TransactDeps {
  readonly database: Database;
  /** Tables that have an `account_id`. */
  readonly accountTables: ReadonlySet<string>;
  readonly newId: (entity: string) => string;
  /** Called after each commit that captured an event: a hint to the sequencer. Must not throw. */
  readonly onCaptured: () => void;
}

/** The outcome of a committed change. */
export interface Committed<R> {
  readonly result: R;
  /** The change's last event, or undefined if it emitted none. */
  readonly lastEventId: string | undefined;
}

/** Runs a change. Its author is fixed at the door; `work` may run up to 4 times, each time in a fresh transaction. */
export type Transact<Tables = unknown> = <R>(
  author: Author,
  work: (tx: Tx<Tables>) => Promise<R>,
) => Promise<Committed<R>>;

const MAX_RETRIES = 3;
const RETRYABLE = new Set(['40001', '40P01']); // serialization failure, deadlock

// U+0000, which neither jsonb nor text can hold
const UNSTORABLE = new Set(['22P05', '22021']);

/** Makes the one function by which anything is written. */
export function createTransact(deps: TransactDeps): Transact {
  return async function transact(author, work) {
    for (let attempt = 0; ; attempt++) {
      try {
        const committed = await runOnce(deps, author, work);
        if (committed.lastEventId !== undefined) deps.onCaptured();
        return committed;
      } catch (error) {
        if (attempt === MAX_RETRIES || !RETRYABLE.has(sqlState(error) ?? '')) throw asEngineError(error);
      }
    }
  };
}

async function runOnce<R>(deps: TransactDeps, author: Author, work: (tx: Tx) => Promise<R>): Promise<Committed<R>> {
  return deps.database.transaction(async (trx) => {
    let lastEventId: string | undefined;
    const db = trx.withPlugin(new AccountGuard({ tables: deps.accountTables, accountId: author.accountId }));
    const tx: Tx = {
      db,
      accountId: author.accountId,
      author,
      get lastEventId() {
        return lastEventId;
      },
      newId: deps.newId,
      emit: async (event, emission) => {
        const emitted = await emit(trx, author, event, emission);
        lastEventId = emitted?.id ?? lastEventId;
        return emitted;
      },
      lockRow: (table, id) => lockRow(db, { table, accountId: author.accountId, id }),
      expectVersion: (entity, id, expected) =>
        expectVersion(trx, { accountId: author.accountId, entity, id, expected }),
    };
    return { result: await work(tx), lastEventId };
  });
}

async function emit<Payload extends z.ZodRawShape, Kind extends EventKind>(
  db: Kysely<EngineTables>,
  author: Author,
  event: EventDefinition<Payload, Kind>,
  emission: Emission<Payload, Kind>,
): Promise<Emitted | undefined> {
  const payload = JSON.stringify(event.schema.parse(emission.payload), wellFormed);
  const changed = 'changed' in emission && emission.changed !== undefined ? emission.changed : null;
  const { rows } = await sql<{ id: string | null; subject_version: number | null }>`
    select * from fanfare.append(${author.accountId}, ${event.name}, ${emission.subjectId}, ${payload}::jsonb, ${changed}::text[],
      ${event.version}::int, ${author.actor}, ${author.requestId}, ${emission.causedBy ?? author.causedBy}, true)
  `.execute(db);
  const row = rows[0];
  return row && row.id !== null && row.subject_version !== null
    ? { id: row.id, subjectVersion: row.subject_version }
    : undefined;
}

/** Half of a surrogate pair becomes U+FFFD, as in any text that the driver sends; jsonb would refuse it. */
function wellFormed(_key: string, value: unknown): unknown {
  return typeof value === 'string' ? value.toWellFormed() : value;
}

interface RowKey {
  readonly table: string;
  readonly accountId: string;
  readonly id: string;
}

async function lockRow(db: Kysely<EngineTables>, { table, accountId, id }: RowKey): Promise<never> {
  // the domain's tables are not known to the engine's types; the signature of Tx.lockRow has the caller's
  const domain = db as unknown as Kysely<Record<string, { id: string; account_id: string }>>;
  const row = await domain
    .selectFrom(table)
    .selectAll()
    .where('account_id', '=', accountId)
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst();
  if (row === undefined) throw new EngineError('NOT_FOUND', `there is no object with the id "${id.slice(0, 80)}"`);
  return row as never;
}

interface Expectation {
  readonly accountId: string;
  readonly entity: string;
  readonly id: string;
  readonly expected: number | null | undefined;
}

async function expectVersion(
  db: Kysely<EngineTables>,
  { accountId, entity, id, expected }: Expectation,
): Promise<number> {
  const key = { account_id: accountId, type: entity, id };
  let current = await lockVersion(db, key);
  if (current === undefined) {
    // no row, nothing to hold: two changes would both find 0 and both go on
    await db
      .insertInto('fanfare.subject')
      .values({ ...key, version: 0 })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    current = (await lockVersion(db, key)) ?? 0;
  }
  if (expected !== null && expected !== undefined && current !== expected)
    throw new VersionConflict({ id, expectedVersion: expected, currentVersion: current });
  return current;
}

async function lockVersion(
  db: Kysely<EngineTables>,
  key: { readonly account_id: string; readonly type: string; readonly id: string },
): Promise<number | undefined> {
  const row = await db
    .selectFrom('fanfare.subject')
    .select('version')
    .where('account_id', '=', key.account_id)
    .where('type', '=', key.type)
    .where('id', '=', key.id)
    .forUpdate()
    .executeTakeFirst();
  return row?.version;
}

/** What a client may be told of a failure of the database; anything else stays as it is and gets masked. */
function asEngineError(error: unknown): unknown {
  const state = sqlState(error) ?? '';
  if (state === 'FF005') {
    return new EngineError('BAD_INPUT', 'the change is too large: its event would be over 256 KiB', { cause: error });
  }
  if (UNSTORABLE.has(state)) {
    return new EngineError('BAD_INPUT', 'a text holds the character U+0000, which can not be stored', { cause: error });
  }
  if (RETRYABLE.has(state)) {
    return new EngineError('UNAVAILABLE', 'too many changes met on the same objects; nothing was changed, try again', {
      cause: error,
    });
  }
  if (state === '57014')
    return new EngineError('TIMEOUT', 'the change took too long; nothing was changed', { cause: error });
  if (isDatabaseGone(error)) {
    return new EngineError(
      'UNAVAILABLE',
      'the database was lost during the change; whether it was made is not known: repeat it with the same Idempotency-Key',
      { cause: error },
    );
  }
  return error;
}
