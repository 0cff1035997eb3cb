import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import { type CapturedPayload, type Catalog, isKnown, payloadFault } from './catalog.ts';
import { type EventRow, type ShardRecord, toRecord } from './read.ts';

/**
 * Gives committed events their order: one leader per shard, chosen by a lease in the database.
 *
 * A shard is *free* (its lease ran out), *held* (this process renews it each second), or *lost* (a renewal did not
 * bring it back, so somebody else has raised its generation). Whatever a frozen leader does after it was thawed, the
 * fence inside `fanfare.stamp` refuses a generation or lease that no longer holds.
 */
export interface Sequencer {
  /** Takes what it can get of the free shards and renews what it holds. Call each second. */
  keepLeases(): Promise<void>;
  /** Checks, stamps and publishes one batch; `more` if there may be another. */
  stampBatch(): Promise<'more' | 'idle'>;
  /** Hands its shards back, so that another process need not wait for the leases to run out. */
  release(): Promise<void>;
  /** The shards that it believes to hold. */
  held(): readonly number[];
}

export interface SequencerDeps {
  readonly database: Database;
  readonly catalog: Catalog;
  /** Sends stamped events on; may fail or lose them: readers notice the gap and fill it from Postgres. */
  readonly publish: (batch: readonly ShardRecord[]) => Promise<void>;
  readonly observe: Observe;
  /** Unique to this process and start. */
  readonly owner: string;
  /** @default 3_000 (ms) */
  readonly leaseMs?: number;
  /** @default the machine's */
  readonly clock?: Clock;
  /** Events per stamp. @default 500 */
  readonly batchSize?: number;
  /** Takes leases over from their holder at the first claim: only where a lock says that the holder is dead. @default false */
  readonly steal?: boolean;
}

/** How long a shard is left to a newer program before this one tries again. */
const GIVEN_UP_MS = 5_000;

/** Builds a sequencer; it does nothing until it is called. Its calls must not overlap with themselves. */
export function createSequencer(deps: SequencerDeps): Sequencer {
  const { database, catalog, publish, observe, owner, leaseMs = 3_000, batchSize = 500, clock = systemClock } = deps;
  const lease = `${leaseMs} milliseconds`;
  const generations = new Map<number, number>();
  let steal = deps.steal ?? false;
  /** Shards that were given up to a newer program, until when. */
  const givenUp = new Map<number, number>();

  async function keepLeases(): Promise<void> {
    if (generations.size > 0) await renew();
    for (const [shard, until] of givenUp) if (clock.now() >= until) givenUp.delete(shard);
    const { rows } = await sql<{ id: number; generation: number }>`
      select * from fanfare.claim_shards(${owner}, ${lease}::interval, ${steal}, ${[...givenUp.keys()]}::smallint[])
    `.execute(database.db);
    steal = false;
    for (const { id, generation } of rows) generations.set(id, generation);
    if (rows.length > 0) observe({ name: 'relay.claimed', shards: rows.map(({ id }) => id) });
  }

  async function renew(): Promise<void> {
    const { rows } = await sql<{ id: number; generation: number }>`
      select * from fanfare.renew_shards(${owner}, ${shards()}::smallint[], ${[...generations.values()]}::bigint[], ${lease}::interval)
    `.execute(database.db);
    const kept = new Map(rows.map(({ id, generation }) => [id, generation]));
    const lost = shards().filter((id) => !kept.has(id));
    for (const id of lost) generations.delete(id);
    if (lost.length > 0) observe({ name: 'relay.lost', shards: lost });
  }

  function shards(): number[] {
    return [...generations.keys()];
  }

  async function stampBatch(): Promise<'more' | 'idle'> {
    if (generations.size === 0) return 'idle';
    // what came through the TypeScript door needs no look, and does not wait for one
    const { batch, restUnchecked } = await stamp(NOTHING_CHECKED);
    if (batch.length > 0 && !restUnchecked) {
      await sendOn(batch, 0);
      return outcomeOf(batch.length);
    }
    const [checked] = await Promise.all([
      checkUnchecked(database, catalog, { shards: shards(), limit: batchSize }),
      sendOn(batch, 0),
    ]);
    if (checked.unknown.length > 0) await giveUp(checked.unknown);
    if (checked.seqs.length === 0) return outcomeOf(batch.length);
    observe({ name: 'relay.checked', seqs: checked.seqs.length, invalid: checked.invalid.length });
    const behind = await stamp(checked);
    await sendOn(behind.batch, checked.invalid.length);
    // a batch is full with what was parked, too; and what was written since the look may stand behind it
    return outcomeOf(batch.length, checked.seqs.length, behind.batch.length + checked.invalid.length);
  }

  function outcomeOf(...sizes: readonly number[]): 'more' | 'idle' {
    return sizes.some((size) => size >= batchSize) ? 'more' : 'idle';
  }

  async function sendOn(batch: readonly ShardRecord[], parked: number): Promise<void> {
    if (batch.length === 0) return;
    // no line of the log for each: it would stand between an event's stamp and its way out
    observe({ name: 'relay.stamped', level: 'debug', events: batch.length });
    await publish(batch).catch((error: unknown) => observe({ name: 'relay.publish_failed', level: 'warn', error }));
    observe({ name: 'relay.batch', level: 'debug', events: batch.length, parked });
  }

  async function stamp({ seqs, invalid }: Checked): Promise<Stamped> {
    const { rows } = await sql<StampedRow>`
      select * from fanfare.stamp(${shards()}::smallint[], ${[...generations.values()]}::bigint[], ${seqs}::bigint[],
        ${invalid.map(({ seq }) => seq)}::bigint[], ${invalid.map(({ reason }) => reason)}::text[], ${batchSize}::int)
    `.execute(database.db);
    return {
      batch: rows.map((row) => ({ ...toRecord(row), shard: row.shard, shardOffset: row.shard_offset })),
      restUnchecked: rows[0]?.rest_unchecked ?? false,
    };
  }

  /** Leaves shards whose next event this program does not know to one that does. */
  async function giveUp(rows: readonly { readonly shard: number; readonly name: string }[]): Promise<void> {
    const left = [...new Set(rows.map(({ shard }) => shard))];
    for (const shard of left) givenUp.set(shard, clock.now() + GIVEN_UP_MS);
    observe({ name: 'relay.gave_up', level: 'warn', shards: left, events: [...new Set(rows.map(({ name }) => name))] });
    await handBack(left);
  }

  async function release(): Promise<void> {
    await database.db.deleteFrom('fanfare.process').where('id', '=', owner).execute();
    await handBack(shards());
  }

  async function handBack(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    const held = ids.map((id) => generations.get(id) ?? -1);
    await sql`
      update fanfare.shard s set lease_until = '-infinity'
      from unnest(${ids}::smallint[], ${held}::bigint[]) as held (id, generation)
      where s.id = held.id and s.generation = held.generation and s.owner = ${owner}
    `.execute(database.db);
    for (const id of ids) generations.delete(id);
  }

  return { keepLeases, stampBatch, release, held: shards };
}

interface StampedRow extends EventRow {
  readonly shard: number;
  readonly shard_offset: number;
  readonly rest_unchecked: boolean;
}

interface Stamped {
  readonly batch: readonly ShardRecord[];
  /** Whether something was left that has to be looked at first. Not known of an empty batch. */
  readonly restUnchecked: boolean;
}

/** Rows that came through SQL and were looked at; the others are not stamped past. */
interface Checked {
  /** Of a type or version that only a newer program knows. */
  readonly unknown: readonly UncheckedRow[];
  readonly seqs: readonly number[];
  readonly invalid: readonly { readonly seq: number; readonly reason: string }[];
}

const NOTHING_CHECKED: Checked = { seqs: [], invalid: [], unknown: [] };

interface UncheckedRow extends CapturedPayload {
  readonly shard: number;
  readonly seq: number;
}

async function checkUnchecked(
  database: Database,
  catalog: Catalog,
  { shards, limit }: { readonly shards: readonly number[]; readonly limit: number },
): Promise<Checked> {
  const { rows } = await sql<UncheckedRow>`
    select * from fanfare.unchecked_events(${shards}::smallint[], ${limit}::int)
  `.execute(database.db);
  const known = rows.filter((row) => isKnown(catalog, row));
  const invalid = known.flatMap((row) => {
    const reason = payloadFault(catalog, row);
    return reason === undefined ? [] : [{ seq: row.seq, reason }];
  });
  return { seqs: known.map(({ seq }) => seq), invalid, unknown: rows.filter((row) => !isKnown(catalog, row)) };
}
