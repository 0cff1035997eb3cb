import { type Expression, type Kysely, type SqlBool, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { idTime } from '../runtime/id.ts';
import { type EventFilter, filterSql, isEmpty } from './filter.ts';

/** A stamped event, as every channel gets it: the stored payload, before upcasting. */
export interface EventRecord {
  readonly seq: number;
  readonly id: string;
  readonly accountId: string;
  readonly position: number;
  readonly name: string;
  readonly payloadVersion: number;
  readonly occurredAt: Date;
  readonly subjectType: string;
  readonly subjectId: string;
  readonly subjectVersion: number;
  readonly changed: readonly string[];
  readonly related: readonly string[];
  readonly payload: Record<string, unknown>;
  readonly actor: string | null;
  readonly requestId: string | null;
  readonly causedBy: string | null;
}

/** A stamped event with its place in its shard, by which nodes notice a gap on the bus. */
export interface ShardRecord extends EventRecord {
  readonly shard: number;
  readonly shardOffset: number;
}

type Reader = Kysely<EngineTables>;

/** As much of a database as readers of the log need. */
export interface LogDatabase {
  readonly db: Reader;
}

export interface EventsRequest {
  readonly accountId: string;
  readonly filters: readonly EventFilter[];
  /** Exclusive; 0 is before the first event. */
  readonly after: number;
  /** Exclusive; undefined is behind the last. */
  readonly before?: number;
  readonly limit: number;
  /** `newest` reads from the end backwards; the answer is in order of position all the same. @default 'oldest' */
  readonly from?: 'oldest' | 'newest';
}

/** Events of an account in order of position. */
export async function readEvents(db: Reader, request: EventsRequest): Promise<EventRecord[]> {
  const near = nearPart(request);
  let rows = await selectPart(db, near).execute();
  if (near !== request && rows.length < request.limit) rows = await selectPart(db, request).execute();
  const records = rows.map(toRecord);
  return request.from === 'newest' ? records.reverse() : records;
}

function selectPart(db: Reader, request: EventsRequest) {
  const { accountId, filters, after, before, limit, from = 'oldest' } = request;
  // few events are of a few subjects, and found by their index; all others in the order of the log
  return (hasSubjects(filters) ? selectEvents(db) : selectInOrder(db))
    .where('l.account_id', '=', accountId)
    .where('e.account_id', '=', accountId) // leads the index by subject
    .where('l.position', '>', after)
    .$if(before !== undefined, (query) => query.where('l.position', '<', before ?? 0))
    .where((eb) => filterSql(eb, filters))
    .$if(filters.every(isEmpty), (query) => query.where(isInReach(request)))
    .orderBy('l.position', from === 'oldest' ? 'asc' : 'desc')
    .limit(limit);
}

/** Positions that a filtered read looks through first, for each event that is asked for. */
const NEAR = 10;

/**
 * The part of a filtered request where its events most likely are, or the request itself if that is no less: a plan by bad
 * statistics then reads a thousand events for a hundred, not all that lie behind.
 */
function nearPart<Request extends EventsRequest>(request: Request): Request {
  const { filters, after, before = Number.POSITIVE_INFINITY, limit, from } = request;
  const end = after + NEAR * limit + 1;
  const isOther = from === 'newest' || filters.every(isEmpty) || hasSubjects(filters);
  return isOther || before <= end ? request : { ...request, before: end };
}

function hasSubjects(filters: readonly EventFilter[]): boolean {
  return filters.some(({ subjects }) => subjects !== undefined);
}

/**
 * Positions have no gap: without a filter the events lie side by side, from the first that retention has left. Told so, Postgres
 * looks at no others. By the limit alone it was not: with what `analyze` says of a day that was still empty it read and
 * sorted all of the day that lay behind.
 */
function isInReach({ accountId, after, before, limit, from }: EventsRequest): Expression<SqlBool> {
  if (from !== 'newest') {
    const first = sql`select f.position - 1 from fanfare.log f where f.account_id = ${accountId} order by f.position limit 1`;
    return sql<SqlBool>`l.position <= greatest(${after}::bigint, (${first})) + ${limit}::bigint`;
  }
  const end = sql`select h.position + 1 from fanfare.head h where h.account_id = ${accountId}`;
  return sql<SqlBool>`l.position >= least(${before ?? null}::bigint, (${end})) - ${limit}::bigint`;
}

export interface EventPageRequest extends Omit<EventsRequest, 'from'> {
  /** JSON of the payloads, in bytes: the page ends with the event that reaches it. */
  readonly maxBytes: number;
}

export interface EventPage {
  readonly events: EventRecord[];
  /** JSON of their payloads. */
  readonly bytes: number;
  /** Whether nothing that was asked for lies behind it. */
  readonly isLast: boolean;
}

/** Events of an account from the oldest on, bounded by their number and by their bytes, too. */
export async function readEventPage(db: Reader, request: EventPageRequest): Promise<EventPage> {
  const near = nearPart(request);
  const page = await readSized(db, near);
  return near === request || !page.isLast ? page : readSized(db, request);
}

async function readSized(db: Reader, request: EventPageRequest): Promise<EventPage> {
  const { limit, maxBytes } = request;
  const part = selectPart(db, request).select(payloadBytes.as('bytes')).as('part');
  const sized = db.selectFrom(part).selectAll().select(bytesBefore.as('bytes_before')).as('sized');
  const rows = await db
    .selectFrom(sized)
    .selectAll()
    .where('bytes_before', '<', maxBytes)
    .orderBy('position')
    .execute();
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  return { events: rows.map(toRecord), bytes, isLast: rows.length < limit && bytes < maxBytes };
}

const payloadBytes = sql<number>`octet_length(e.payload::text)`;
const bytesBefore = sql<number>`sum(bytes) over (order by position) - bytes`;

/** Events of a shard behind an offset, in order: what a node reads to fill a gap. */
export async function readShard(db: Reader, shard: number, afterOffset: number, limit: number): Promise<ShardRecord[]> {
  const rows = await selectEvents(db)
    .where('l.shard', '=', shard)
    .where('l.shard_offset', '>', afterOffset)
    .orderBy('l.shard_offset')
    .limit(limit)
    .execute();
  return rows.map((row) => ({ ...toRecord(row), shard: row.shard, shardOffset: row.shard_offset }));
}

/** When the first event behind each of these positions was captured, as far as there is one: retention may have dropped those before it. */
export async function readTimesBehind(
  db: Reader,
  accountId: string,
  positions: readonly number[],
): Promise<ReadonlyMap<number, Date>> {
  const { rows } = await sql<{ position: number; occurred_at: Date }>`
    select p.position, e.occurred_at
    from unnest(${positions}::bigint[]) as p (position)
    cross join lateral (
      select l.seq from fanfare.log l where l.account_id = ${accountId} and l.position > p.position order by l.position limit 1
    ) l
    cross join lateral (select o.occurred_at from fanfare.event o where o.seq = l.seq offset 0) e -- as in selectInOrder
  `.execute(db);
  return new Map(rows.map(({ position, occurred_at }) => [position, occurred_at]));
}

/** The offset of the last stamped event of each shard. */
export async function readShardHeads(db: Reader): Promise<ReadonlyMap<number, number>> {
  const rows = await db.selectFrom('fanfare.shard').select(['id', 'head']).execute();
  return new Map(rows.map(({ id, head }) => [id, head]));
}

/** The shard that gives the account's events their order. */
export async function readShardOf(db: Reader, accountId: string): Promise<number> {
  const row = await db
    .selectFrom('fanfare.account')
    .select('shard')
    .where('id', '=', accountId)
    .executeTakeFirstOrThrow();
  return row.shard;
}

/** The position of the account's last event; 0 if there is none. */
export async function readHead(db: Reader, accountId: string): Promise<number> {
  const row = await db
    .selectFrom('fanfare.head')
    .select('position')
    .where('account_id', '=', accountId)
    .executeTakeFirst();
  return row?.position ?? 0;
}

/**
 * The smallest position that can still be read; head + 1 if there is none. One statement: events stamped between two
 * would make a log that was empty a moment ago look as if it had lost them.
 */
export async function readEarliest(db: Reader, accountId: string): Promise<number> {
  const { rows } = await sql<{ earliest: number }>`
    select coalesce(
      (select l.position from fanfare.log l where l.account_id = ${accountId} order by l.position limit 1),
      (select h.position + 1 from fanfare.head h where h.account_id = ${accountId}),
      1) as earliest
  `.execute(db);
  return rows[0]?.earliest ?? 1;
}

/** Stamped events by their ids, in any order; unknown ids and other accounts' are left out. */
export async function readEventsById(db: Reader, accountId: string, ids: readonly string[]): Promise<EventRecord[]> {
  const known = ids.filter((id) => eventTime(id) !== undefined);
  if (known.length === 0) return [];
  const rows = await selectEvents(db)
    .where('l.account_id', '=', accountId)
    .where('e.account_id', '=', accountId) // the account guard asks for both
    .where(({ eb }) => atIds(known, eb.ref('e.id'), eb.ref('e.occurred_at')))
    .execute();
  return rows.map(toRecord);
}

/** What has become of a captured event. */
export type Stamp =
  | { readonly state: 'stamped'; readonly position: number }
  | { readonly state: 'pending' }
  /** Its payload broke its schema: it will never have a position; `position` is that of the event before it. */
  | { readonly state: 'parked'; readonly position: number }
  /** Past retention, or never there. */
  | { readonly state: 'unknown' };

/** Looks up where a captured event stands in its account's order. */
export async function readStamp(db: Reader, accountId: string, eventId: string): Promise<Stamp> {
  const row = await db
    .selectFrom('fanfare.event as e')
    .leftJoin('fanfare.log as l', 'l.seq', 'e.seq')
    .leftJoin('fanfare.parked as p', 'p.seq', 'e.seq')
    .select(['e.account_id', 'l.position', sql<number | null>`p.position`.as('parked_at'), isWaiting.as('is_waiting')])
    .where(({ eb }) => atIds([eventId], eb.ref('e.id'), eb.ref('e.occurred_at')))
    .executeTakeFirst();
  // looked at here: without statistics the planner went through all of the account's events to make sure
  if (row?.account_id !== accountId) return { state: 'unknown' };
  if (row.position !== null) return { state: 'stamped', position: row.position };
  if (row.parked_at !== null) return { state: 'parked', position: row.parked_at };
  // an event's partition may outlive its log row: it goes only when nothing in it can be reached
  return { state: row.is_waiting ? 'pending' : 'unknown' };
}

// by shard, since the outbox has no index that begins with seq
const isWaiting = sql<boolean>`exists (select from fanfare.shard s join fanfare.outbox o on o.shard = s.id and o.seq = e.seq)`;

const EVENT_COLUMNS = [
  'l.shard',
  'l.shard_offset',
  'l.position',
  'e.seq',
  'e.id',
  'e.account_id',
  'e.name',
  'e.payload_version',
  'e.occurred_at',
  'e.subject_type',
  'e.subject_id',
  'e.subject_version',
  'e.changed',
  'e.related',
  'e.payload',
  'e.actor',
  'e.request_id',
  'e.caused_by',
] as const;

function selectEvents(db: Reader) {
  return db
    .selectFrom('fanfare.log as l')
    .innerJoin('fanfare.event as e', 'e.seq', 'l.seq') // on seq alone: with occurred_at too it was 36 times slower
    .select(EVENT_COLUMNS);
}

/**
 * Each event by its row of the log, whatever the planner believes: as long as a day's partition has no statistics, or old ones, it
 * joined by the index of subjects, and read all of the account's events for each page (500 events/s where these are 26,000).
 */
function selectInOrder(db: Reader) {
  return db
    .selectFrom('fanfare.log as l')
    .innerJoinLateral(
      (eb) =>
        eb.selectFrom('fanfare.event as of').selectAll().whereRef('of.seq', '=', 'l.seq').offset(sql.lit(0)).as('e'),
      (join) => join.onTrue(),
    )
    .select(EVENT_COLUMNS);
}

/** An id holds its event's time to the millisecond, and with it the partition. */
function atIds(ids: readonly string[], id: Expression<string>, occurredAt: Expression<Date>): Expression<SqlBool> {
  const times = ids.flatMap((each) => eventTime(each) ?? []);
  return sql<SqlBool>`${id} = any(${ids}::text[]) and ${occurredAt} = any(${times.map((time) => time.toISOString())}::timestamptz[])`;
}

const YEAR_10000_MS = 253_402_300_800_000;

/** Ids come from clients, too: one with a year of five digits, which Postgres can't parse, is nobody's. */
function eventTime(id: string): Date | undefined {
  const time = idTime(id);
  return time === undefined || time.getTime() >= YEAR_10000_MS ? undefined : time;
}

/** An event's row joined with its place, as `selectEvents` and `fanfare.stamp` give it. */
export interface EventRow {
  readonly seq: number;
  readonly id: string;
  readonly account_id: string;
  readonly position: number;
  readonly name: string;
  readonly payload_version: number;
  readonly occurred_at: Date;
  readonly subject_type: string;
  readonly subject_id: string;
  readonly subject_version: number;
  readonly changed: string[];
  readonly related: string[];
  readonly payload: Record<string, unknown>;
  readonly actor: string | null;
  readonly request_id: string | null;
  readonly caused_by: string | null;
}

/** Turns a row into what the rooms hand around. */
export function toRecord(row: EventRow): EventRecord {
  return {
    seq: row.seq,
    id: row.id,
    accountId: row.account_id,
    position: row.position,
    name: row.name,
    payloadVersion: row.payload_version,
    occurredAt: row.occurred_at,
    subjectType: row.subject_type,
    subjectId: row.subject_id,
    subjectVersion: row.subject_version,
    changed: row.changed,
    related: row.related,
    payload: row.payload,
    actor: row.actor,
    requestId: row.request_id,
    causedBy: row.caused_by,
  };
}
