import type { Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { AccountGuard } from '../database/account-guard.ts';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import type { Principal } from '../identity/principal.ts';
import type { Catalog } from '../outbox/catalog.ts';
import type { CursorCodec } from '../outbox/cursor.ts';
import type { Outcome } from '../outbox/idempotency.ts';
import { readHead } from '../outbox/read.ts';
import type { Transact } from '../outbox/transact.ts';
import type { Clock } from '../runtime/clock.ts';
import { createLoaders, type Loaders } from './loader.ts';
import type { Registry } from './registry.ts';

/** What every operation of a process shares. */
export interface EngineServices {
  readonly database: Database;
  readonly transact: Transact;
  readonly catalog: Catalog;
  readonly cursors: CursorCodec;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Tables that have an `account_id`. */
  readonly accountTables: ReadonlySet<string>;
  /** Calls with an idempotency key that are under way in this process: equal ones share the wait. */
  readonly callsUnderWay: Map<string, Promise<Outcome | undefined>>;
  /** Gives all processes the hint to look at the keys again. Must not throw. */
  readonly keysChanged: () => void;
  /** What other rooms' fields need of the process, each under a symbol of its own. */
  readonly rooms: Map<symbol, unknown>;
}

/**
 * What a resolver gets: one per operation, and one per event of a subscription.
 * @typeParam Tables the domain's tables
 */
export interface EngineContext<Tables = unknown> {
  /** Only a type: what `TablesOf` reads. */
  readonly tables?: Tables;
  readonly principal: Principal;
  readonly accountId: string;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
  /** The event that the caller answers with its change. */
  readonly causedBy: string | undefined;
  /** Reads the account's rows. It can't write, and refuses a statement that does not name the account. */
  readonly read: ReadonlyKysely<Tables>;
  readonly loaders: Loaders;
  readonly engine: EngineServices;
  /** The account's head, as it was before the operation's first resolver ran. */
  readonly head: Promise<number> | undefined;
  /** Aborts when nobody waits for the answer any more. A field that waits ends then. */
  readonly signal: AbortSignal | undefined;
}

export interface ContextOptions {
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey?: string | undefined;
  readonly causedBy?: string | undefined;
  /** Set where the document selects `head`: its read must come before any other. @default false */
  readonly readsHead?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Makes a context. With `readsHead` the caller awaits `context.head` before it executes. */
export function createContext(engine: EngineServices, options: ContextOptions): EngineContext {
  return new OperationContext(engine, options);
}

/**
 * A class for what it makes when it is first asked for: an event's selection seldom reads anything, and a thousand streams
 * make a thousand contexts for one event.
 */
class OperationContext implements EngineContext {
  readonly engine: EngineServices;
  readonly principal: Principal;
  readonly accountId: string;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
  readonly causedBy: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly head: Promise<number> | undefined;
  #reader: Kysely<EngineTables> | undefined;
  #loaders: Loaders | undefined;

  constructor(engine: EngineServices, options: ContextOptions) {
    this.engine = engine;
    this.principal = options.principal;
    this.accountId = options.principal.accountId;
    this.requestId = options.requestId;
    this.idempotencyKey = options.idempotencyKey;
    this.causedBy = options.causedBy;
    this.signal = options.signal;
    this.head = options.readsHead ? readHead(this.#guarded, this.accountId) : undefined;
  }

  get read(): ReadonlyKysely<unknown> {
    return this.#guarded as unknown as ReadonlyKysely<unknown>; // the same object, less the methods that write
  }

  get loaders(): Loaders {
    this.#loaders ??= createLoaders(this.#guarded, this.principal, this.engine.registry);
    return this.#loaders;
  }

  get #guarded(): Kysely<EngineTables> {
    this.#reader ??= guardedReader(this.engine, this.accountId);
    return this.#reader;
  }
}

function guardedReader(engine: EngineServices, accountId: string): Kysely<EngineTables> {
  return engine.database.db.withPlugin(new AccountGuard({ tables: engine.accountTables, accountId }));
}
