import DataLoader from 'dataloader';
import type { EngineTables } from '../database/tables.ts';
import type { EngineContext } from '../graphql/context.ts';
import { readTimesBehind } from '../outbox/read.ts';
import type { Consumer } from './consumer.ts';

type Context = EngineContext<EngineTables>;

/**
 * Makes a function that tells when the first event behind a consumer's position was captured, null if there is none; those
 * of all consumers of a page are read at once, each position once in an operation.
 */
export function createOldestLoader(): (context: Context, consumer: Consumer) => Promise<Date | null> {
  const loaders = new WeakMap<Context, DataLoader<number, Date | null>>();
  return async (context, { position, head }) => {
    if (position >= head) return null;
    const known = loaders.get(context);
    const loader =
      known ?? new DataLoader<number, Date | null>((places) => readOldest(context, places), { maxBatchSize: 100 });
    if (known === undefined) loaders.set(context, loader);
    return loader.load(position);
  };
}

async function readOldest({ engine, accountId }: Context, positions: readonly number[]): Promise<(Date | null)[]> {
  const times = await readTimesBehind(engine.database.db, accountId, positions);
  return positions.map((position) => times.get(position) ?? null);
}
