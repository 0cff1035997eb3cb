import { setTimeout as wait } from 'node:timers/promises';
import { sql } from 'kysely';
import { provideConsumerServices } from '../../src/consumers/field-services.ts';
import type { Waiting } from '../../src/consumers/waiting.ts';
import { migrate } from '../../src/database/migrate.ts';
import type { Principal } from '../../src/identity/principal.ts';
import { openTestEngine, type RunOptions, type TestEngine } from '../support/engine.ts';
import { domain, editNote, toyMigrations, writeNote } from '../support/toy-domain.ts';

type ToyTx = Parameters<typeof writeNote>[0];

export interface ConsumerEngine extends TestEngine {
  readonly waiting: Waiting;
  readonly draining: AbortController;
  /** Accounts that somebody watches, once for each watch. */
  watched(): readonly string[];
  /** What is asked who a principal is now; tests replace it. */
  refresh: (principal: Principal) => Promise<Principal>;
  /** Called when a poll begins to watch, before it hears anything. */
  onWatch: () => Promise<void>;
  /** Writes an event of `note.written` for each true and one of `note.edited` for each false. */
  writeMixed(pattern: readonly boolean[]): Promise<void>;
  /** Writes notes in one change, gives their events positions, and rings. */
  writeNotes(texts: readonly string[], accountId?: string): Promise<void>;
  create(args: Readonly<Record<string, unknown>>, options?: RunOptions): Promise<ConsumerView>;
  poll(args: Readonly<Record<string, unknown>>, options?: RunOptions): Promise<BatchView>;
  ack(name: string, cursor: string, options?: RunOptions): Promise<ConsumerView>;
  consumer(name: string, options?: RunOptions): Promise<ConsumerView | null>;
  /** Lets the leases run out that hold this position, or all. */
  expire(name: string, position?: number): Promise<void>;
  cursorOf(position: number, accountId?: string): string;
}

export interface ConsumerView {
  readonly id: string;
  readonly name: string;
  readonly position: string;
  readonly cursor: string;
  readonly behind: number;
  readonly oldestWaitingAt: string | null;
  readonly lagSeconds: number;
  readonly leases: readonly { readonly after: string; readonly to: string; readonly until: string; attempts: number }[];
}

export interface BatchView {
  readonly events: readonly { readonly position: string; readonly cursor: string; readonly name: string }[];
  readonly cursor: string | null;
  readonly leasedUntil: string | null;
  readonly attempts: number;
  readonly behind: number;
}

const VIEW = 'id name position cursor behind oldestWaitingAt lagSeconds leases { after to until attempts }';

export const POLL = `query ($name: String!, $first: Int, $waitMs: Int, $leaseSeconds: Int) {
  consumerPoll(name: $name, first: $first, waitMs: $waitMs, leaseSeconds: $leaseSeconds) {
    events { position cursor name } cursor leasedUntil attempts behind } }`;
export const CREATE = `mutation ($name: String!, $filter: EventFilter, $startAfter: String) {
  consumerCreate(name: $name, filter: $filter, startAfter: $startAfter) { ... on ConsumerCreateSuccess { consumer { ${VIEW} } } } }`;
export const ACK = `mutation ($name: String!, $cursor: String!) {
  consumerAck(name: $name, cursor: $cursor) { ... on ConsumerAckSuccess { consumer { ${VIEW} } } } }`;
export const DELETE =
  'mutation ($name: String!) { consumerDelete(name: $name) { ... on ConsumerDeleteSuccess { id } } }';

/** Notes and consumers on a database of their own; events get their positions by `writeNotes` only. */
export async function openConsumerEngine(kind: 'postgres' | 'pglite', maxConnections = 12): Promise<ConsumerEngine> {
  const base = await openTestEngine({
    kind,
    domain,
    maxConnections,
    prepare: (database) => migrate(database, toyMigrations),
  });
  const { services } = base;
  const draining = new AbortController();
  const rings = new Map<() => void, string>();
  const waiting = provideConsumerServices(services, {
    draining: draining.signal,
    refresh: (principal) => engine.refresh(principal),
    watch: async (accountId, ring) => {
      await engine.onWatch();
      rings.set(ring, accountId);
      return () => void rings.delete(ring);
    },
  });
  const stampAndRing = async (accountId: string) => {
    await base.stampedEvents(accountId);
    for (const [ring, watched] of rings) if (watched === accountId) ring();
  };
  let edits = 0;
  const engine: ConsumerEngine = {
    ...base,
    onWatch: async () => {},
    async writeMixed(pattern) {
      const author = { accountId: 'acc_default', actor: null, requestId: null, causedBy: null };
      await services.transact(author, async (transaction) => {
        const tx = transaction as unknown as ToyTx; // the toy domain's tables are there
        const { note } = await tx.db
          .selectFrom('note')
          .select('id as note')
          .where('account_id', '=', 'acc_default')
          .orderBy('id')
          .executeTakeFirstOrThrow();
        for (const isWritten of pattern) {
          const text = `text ${edits++}`;
          await (isWritten ? writeNote(tx, text) : editNote(tx, { id: note, text }));
        }
      });
      await stampAndRing('acc_default');
    },
    waiting,
    draining,
    watched: () => [...rings.values()],
    refresh: async (principal) => principal,
    async writeNotes(texts, accountId = 'acc_default') {
      const author = { accountId, actor: null, requestId: null, causedBy: null };
      await services.transact(author, async (tx) => {
        for (const text of texts) await writeNote(tx as unknown as ToyTx, text); // the toy domain's tables are there
      });
      await stampAndRing(accountId);
    },
    create: async (variables, options) =>
      (await base.run<{ consumerCreate: { consumer: ConsumerView } }>(CREATE, { ...options, variables })).consumerCreate
        .consumer,
    poll: async (variables, options) =>
      (await base.run<{ consumerPoll: BatchView }>(POLL, { ...options, variables })).consumerPoll,
    ack: async (name, cursor, options) =>
      (await base.run<{ consumerAck: { consumer: ConsumerView } }>(ACK, { ...options, variables: { name, cursor } }))
        .consumerAck.consumer,
    consumer: async (name, options) =>
      (
        await base.run<{ consumer: ConsumerView | null }>(
          `query ($name: String!) { consumer(name: $name) { ${VIEW} } }`,
          { ...options, variables: { name } },
        )
      ).consumer,
    async expire(name, position) {
      await sql`
        update fanfare.consumer_lease l set lease_until = clock_timestamp() - interval '1 ms' from fanfare.consumer c
        where c.id = l.consumer_id and c.name = ${name}
          and (${position ?? null}::bigint is null or (l.from_position < ${position ?? null}::bigint and l.to_position >= ${position ?? null}::bigint))
      `.execute(services.database.db);
    },
    cursorOf: (position, accountId = 'acc_default') =>
      services.cursors.encode(accountId, { kind: 'position', position }),
  };
  return engine;
}

/** `['1', '2', '3']`, as positions are written. */
export function positions(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, at) => String(from + at));
}

export function positionsIn({ events }: BatchView): string[] {
  return events.map(({ position }) => position);
}

/** Of a poll that may wait for 30 s: fails if nothing wakes it before its time is over. */
export async function soon<T>(poll: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = wait(20_000, undefined, { signal: over.signal }).then(() => {
    throw new Error('nothing has woken the poll');
  });
  late.catch(() => {}); // aborted
  try {
    return await Promise.race([poll, late]);
  } finally {
    over.abort();
  }
}
