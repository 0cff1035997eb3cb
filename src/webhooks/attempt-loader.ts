import DataLoader from 'dataloader';
import type { Selectable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EngineContext } from '../graphql/context.ts';
import type { DeliveryRecord } from './deliveries.ts';

export type AttemptRow = Selectable<EngineTables['fanfare.attempt']>;

type Context = EngineContext<EngineTables>;

/** The most that are shown of one delivery. */
const MAX_ATTEMPTS_SHOWN = 100;

/**
 * Makes a function that gives the newest 100 attempts of a delivery, oldest first; those of all deliveries of a page are
 * read at once. Each operation has a loader, forgotten with its context.
 */
export function createAttemptLoader(): (context: Context, delivery: DeliveryRecord) => Promise<AttemptRow[]> {
  const loaders = new WeakMap<Context, DataLoader<DeliveryRecord, AttemptRow[], string>>();
  return (context, delivery) => {
    const known = loaders.get(context);
    if (known !== undefined) return known.load(delivery);
    const loader = new DataLoader<DeliveryRecord, AttemptRow[], string>(
      (deliveries) => readAttempts(context, deliveries),
      { cacheKeyFn: ({ id, attempts }) => `${id}:${attempts}`, maxBatchSize: 100 },
    );
    loaders.set(context, loader);
    return loader.load(delivery);
  };
}

async function readAttempts(
  { read, accountId }: Context,
  deliveries: readonly DeliveryRecord[],
): Promise<AttemptRow[][]> {
  const rows = await read
    .selectFrom('fanfare.attempt')
    .selectAll()
    .where('account_id', '=', accountId)
    .where(
      'delivery_id',
      'in',
      deliveries.map(({ id }) => id),
    )
    // of the births: they pick the partitions
    .where(
      'born_at',
      'in',
      deliveries.map(({ born_at }) => born_at),
    )
    .orderBy('number')
    .execute();
  const byDelivery = Map.groupBy(rows, ({ delivery_id }) => delivery_id);
  return deliveries.map(({ id }) => (byDelivery.get(id) ?? []).slice(-MAX_ATTEMPTS_SHOWN));
}
