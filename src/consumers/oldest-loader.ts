import DataLoader from 'dataloader';
import type { EngineTables } from '../database/tables.ts';
import type { EngineContext } from '../graphql/context.ts';
import { readEvents } from '../outbox/read.ts';
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

async function readOldest(context: Context, positions: readonly number[]): Promise<(Date | null)[]> {
  const { read, accountId } = context;
  const rows = await read
    .selectFrom('fanfare.log as l')
    .innerJoin('fanfare.event as e', 'e.seq', 'l.seq')
    .select(['l.position', 'e.occurred_at'])
    .where('l.account_id', '=', accountId)
    .where('e.account_id', '=', accountId) // the account guard asks for both
    .where(
      'l.position',
      'in',
      positions.map((position) => position + 1),
    )
    .execute();
  const found = new Map(rows.map(({ position, occurred_at }) => [position - 1, occurred_at]));
  return Promise.all(positions.map((position) => found.get(position) ?? readFirstLeft(context, position)));
}

/** Retention has dropped the next one: the first that is left. */
async function readFirstLeft({ engine, accountId }: Context, position: number): Promise<Date | null> {
  const [event] = await readEvents(engine.database.db, { accountId, filters: [], after: position, limit: 1 });
  return event?.occurredAt ?? null;
}
