import { sql } from 'kysely';
import type { Database } from '../../src/database/connect.ts';

/** A batch as one of a crowd gets it, and how it says that it is done. */
export interface Taken {
  /** In the order in which they came. */
  readonly positions: readonly number[];
  ack(): Promise<void>;
}

export interface CrowdOptions {
  readonly size: number;
  /** Undefined: there is nothing now. */
  readonly take: () => Promise<Taken | undefined>;
  /** Whether all is acked. */
  readonly isDone: () => Promise<boolean>;
  /** What becomes of a batch. @default always 'done' */
  readonly fate?: () => Fate;
}

/** *done*: worked off and acked. *crashed*: dropped, never acked. *late*: worked off, and acked after another poll. */
export type Fate = 'done' | 'crashed' | 'late';

export interface CrowdResult {
  /** Every position that was worked off, as often as it was. */
  readonly worked: readonly number[];
  readonly batches: readonly (readonly number[])[];
  readonly fates: Readonly<Record<Fate, number>>;
}

/** Lets several share one consumer until all is acked. */
export async function runCrowd({ size, take, isDone, fate = () => 'done' }: CrowdOptions): Promise<CrowdResult> {
  const worked: number[] = [];
  const batches: (readonly number[])[] = [];
  const fates = { done: 0, crashed: 0, late: 0 };

  async function work(): Promise<void> {
    let late: Taken | undefined;
    for (;;) {
      const taken = await take();
      await late?.ack();
      late = undefined;
      if (taken === undefined) {
        if (await isDone()) return;
        continue;
      }
      const becomes = fate();
      fates[becomes]++;
      batches.push(taken.positions);
      if (becomes === 'crashed') continue;
      worked.push(...taken.positions);
      if (becomes === 'late') late = taken;
      else await taken.ack();
    }
  }

  await Promise.all(Array.from({ length: size }, work));
  return { worked, batches, fates };
}

/** Lends out by a look and a write, without the consumer's row lock: what the naive version would do. */
export async function leaseNaively(
  { db }: Database,
  { consumerId, first }: { readonly consumerId: string; readonly first: number },
): Promise<{ readonly from: number; readonly to: number } | undefined> {
  const { rows } = await sql<{ leased_to: number; head: number }>`
    select leased_to, head from fanfare.consumer_state where id = ${consumerId}
  `.execute(db);
  const { leased_to: from, head } = rows[0] ?? { leased_to: 0, head: 0 };
  if (from >= head) return undefined;
  const to = Math.min(head, from + first);
  await sql`
    insert into fanfare.consumer_lease (account_id, consumer_id, from_position, to_position, lease_until, attempts)
    values ('acc_default', ${consumerId}, ${from}, ${to}, clock_timestamp() + interval '1 minute', 1) on conflict do nothing
  `.execute(db);
  await sql`update fanfare.consumer set leased_to = greatest(leased_to, ${to}::bigint) where id = ${consumerId}`.execute(
    db,
  );
  return { from, to };
}
