import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { EngineContext } from '../graphql/context.ts';
import type { Principal } from '../identity/principal.ts';
import { filterOf } from '../outbox/filter.ts';
import { type EventRecord, readEarliest, readEvents } from '../outbox/read.ts';
import { type Consumer, filtersOf, noSuchConsumer, requireSight } from './consumer.ts';
import { fieldServices } from './field-services.ts';
import { type Lease, leaseEvents } from './lease.ts';

/** What a poll gives; without events nothing is lent out. */
export interface Batch {
  readonly events: readonly EventRecord[];
  /** The end of the range, for the ack. */
  readonly to: number | undefined;
  readonly leasedUntil: Date | undefined;
  readonly attempts: number;
  /** Events of the log, of all kinds, that lie behind what was lent out or looked through. */
  readonly behind: number;
}

export interface PollRequest {
  readonly name: string;
  /** 1 to 100. */
  readonly first: number;
  /** 0 to 30,000. */
  readonly waitMs: number;
  /** 1 to 600. */
  readonly leaseSeconds: number;
}

type Context = EngineContext<EngineTables>;

/** Ranges that one poll looks through before it says so: 100,000 positions. */
const MAX_SCANS = 20;

/**
 * Lends the caller a consumer's next events. With nothing to give it waits for `waitMs`, and ends early when the process
 * stops or the caller has gone. What it gives is the caller's alone until it is acked or the lease runs out.
 * @throws EngineError NOT_FOUND; FORBIDDEN; CURSOR_EXPIRED with `earliestCursor`; EPOCH_CHANGED; CONFLICT if too many leases are open
 */
export async function pollConsumer(context: Context, request: PollRequest): Promise<Batch> {
  const consumer = await findConsumer(context, request.name);
  if (consumer === undefined) throw noSuchConsumer(request.name);
  requireSightOf(context, context.principal, consumer);
  const take = () => scanOn(context, consumer, request);
  const lease = await take();
  if (lease.outcome !== 'EMPTY' || request.waitMs === 0) return toBatch(context, consumer, lease);
  return toBatch(context, consumer, await waitFor(context, consumer, { waitMs: request.waitMs, take }));
}

/** The account's consumer of this name. */
export async function findConsumer({ read, accountId }: Context, name: string): Promise<Consumer | undefined> {
  if (!name.isWellFormed() || name.includes('\0')) return undefined;
  return read
    .selectFrom('fanfare.consumer_state')
    .selectAll()
    .where('account_id', '=', accountId)
    .where('name', '=', name)
    .executeTakeFirst();
}

function requireSightOf({ engine }: Context, principal: Principal, consumer: Consumer): void {
  requireSight(engine.registry, principal, { filter: filterOf(consumer), narrowing: consumer.narrowing });
}

/** Goes on over ranges that hold nothing of what the consumer wants, as far as one poll may. */
async function scanOn(
  { engine, accountId, signal }: Context,
  consumer: Consumer,
  request: PollRequest,
): Promise<Lease> {
  const { first, leaseSeconds } = request;
  const next = () => leaseEvents(engine.database.db, { accountId, consumerId: consumer.id, first, leaseSeconds });
  let lease = await next();
  for (let scans = 1; lease.outcome === 'SCANNED' && scans < MAX_SCANS && !signal?.aborted; scans++)
    lease = await next();
  return lease;
}

interface Wait {
  readonly waitMs: number;
  readonly take: () => Promise<Lease>;
}

/** The watch begins before the look, so that no event comes in between unheard. */
async function waitFor(context: Context, consumer: Consumer, { waitMs, take }: Wait): Promise<Lease> {
  const { clock } = context.engine;
  const { waiting, draining, refresh } = fieldServices(context);
  const signal = context.signal ?? new AbortController().signal;
  const deadline = clock.now() + waitMs;
  if (draining.aborted) return NOTHING;
  const waiter = await waiting.join(consumer);
  let hasRested = false;
  const look = async () => {
    // what the key has lost meanwhile, it has lost here too
    if (hasRested) requireSightOf(context, await refresh(context.principal), consumer);
    return take();
  };
  try {
    for (;;) {
      const lease = await waiter.take(look);
      const leftMs = deadline - clock.now();
      if (lease.outcome !== 'EMPTY' || leftMs <= 0) return lease;
      await waiter.rest(Math.min(leftMs, lease.waitMs ?? leftMs), signal);
      hasRested = true;
      // who has gone would let the lease run out
      if (signal.aborted || draining.aborted) return NOTHING;
    }
  } finally {
    waiter.leave();
  }
}

const NOTHING: Lease = { outcome: 'EMPTY', waitMs: undefined };

async function toBatch(context: Context, consumer: Consumer, lease: Lease): Promise<Batch> {
  switch (lease.outcome) {
    case 'LEASED':
      return readLease(context, consumer, lease);
    case 'SCANNED':
      return { ...EMPTY, behind: lease.head - lease.to };
    case 'EMPTY':
      return EMPTY;
    case 'FULL':
      throw new EngineError(
        'CONFLICT',
        `the consumer has as many open leases as it may, the first until ${lease.until.toISOString()}: ack what was polled`,
      );
    case 'LOST':
      throw pastRetention(context, lease.earliest);
    case 'EPOCH_CHANGED':
      throw new EngineError(
        'EPOCH_CHANGED',
        'the log was restored since this consumer was last acked; read the current state, then ack a cursor of now, such as "head"',
      );
    case 'GONE':
      throw noSuchConsumer(consumer.name);
  }
}

const EMPTY: Batch = { events: [], to: undefined, leasedUntil: undefined, attempts: 0, behind: 0 };

async function readLease(
  context: Context,
  consumer: Consumer,
  { from, to, events: count, until, attempts, head }: Lease & { readonly outcome: 'LEASED' },
): Promise<Batch> {
  const { engine, accountId } = context;
  const { db } = engine.database;
  const filters = filtersOf(consumer);
  const events = await readEvents(db, { accountId, filters, after: from, before: to + 1, limit: count });
  // retention came between the lease and the read: the gap must not be silent
  if (events.length < count) throw pastRetention(context, await readEarliest(db, accountId));
  return { events, to, leasedUntil: until, attempts, behind: head - to };
}

function pastRetention({ engine, accountId }: Context, earliest: number): EngineError {
  const earliestCursor = engine.cursors.encode(accountId, { kind: 'position', position: earliest - 1 });
  return new EngineError(
    'CURSOR_EXPIRED',
    'events that this consumer has not acked are past retention; read the current state, then ack "earliestCursor" to go on behind it',
    { details: { earliestCursor } },
  );
}
