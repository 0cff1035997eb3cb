import DataLoader from 'dataloader';
import { type Selectable, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EngineContext } from '../graphql/context.ts';

export type LeaseRow = Selectable<EngineTables['fanfare.consumer_lease']>;

type Context = EngineContext<EngineTables>;

/** The most that are shown of one consumer. */
const MAX_LEASES_SHOWN = 100;

/**
 * Makes a function that gives the first 100 leases of a consumer; those of all consumers of a page are read at once. Read
 * anew at each call in another turn: a change may lie in between.
 */
export function createLeaseLoader(): (context: Context, consumerId: string) => Promise<LeaseRow[]> {
  const loaders = new WeakMap<Context, DataLoader<string, LeaseRow[]>>();
  return (context, consumerId) => {
    const known = loaders.get(context);
    const loader =
      known ??
      new DataLoader<string, LeaseRow[]>((ids) => readLeases(context, ids), { cache: false, maxBatchSize: 100 });
    if (known === undefined) loaders.set(context, loader);
    return loader.load(consumerId);
  };
}

async function readLeases({ read, accountId }: Context, ids: readonly string[]): Promise<LeaseRow[][]> {
  const rows = await read
    .selectFrom((from) =>
      from
        .selectFrom('fanfare.consumer_lease')
        .selectAll()
        .select(sql<number>`row_number() over (partition by consumer_id order by to_position)`.as('rank'))
        .where('account_id', '=', accountId)
        .where('consumer_id', 'in', ids)
        .as('lease'),
    )
    .selectAll()
    .where('rank', '<=', MAX_LEASES_SHOWN)
    .orderBy('to_position')
    .execute();
  const byConsumer = Map.groupBy(rows, ({ consumer_id }) => consumer_id);
  return ids.map((id) => byConsumer.get(id) ?? []);
}
