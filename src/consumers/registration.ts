import { sql } from 'kysely';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { type EventFilter, FILTER_PARTS, filterColumns, filterKey, filterOf } from '../outbox/filter.ts';
import { readHead } from '../outbox/read.ts';
import type { Tx } from '../outbox/transact.ts';
import { newId } from '../runtime/id.ts';
import { type Consumer, noSuchConsumer } from './consumer.ts';

/** Consumers of one account. */
export const MAX_CONSUMERS = 1_000;

const NAME = /^[A-Za-z0-9._-]{1,100}$/;

export interface NewConsumer {
  /** Checked by `checkName`. */
  readonly name: string;
  /** Checked by `toStoredFilter`. */
  readonly filter: EventFilter;
  /** Begins behind this position; undefined begins with the next event. */
  readonly startAfter: number | undefined;
  readonly creator: Principal;
}

/** @throws EngineError BAD_INPUT */
export function checkName(name: string): string {
  if (NAME.test(name)) return name;
  throw new EngineError('BAD_INPUT', '"name" must have 1 to 100 of the characters A-Z a-z 0-9 . _ -');
}

/**
 * Makes a consumer, or gives the one that has this name and filter already, where it is.
 * @throws EngineError CONFLICT naming what differs from the one that has the name
 */
export async function createConsumer(tx: Tx, input: NewConsumer): Promise<Consumer> {
  await requireRoom(tx, input.name);
  const { name, filter, startAfter, creator } = input;
  const head = await readHead(tx.db, tx.accountId);
  await tx.db
    .insertInto('fanfare.consumer')
    .values(({ selectFrom }) => ({
      id: newId('cns'),
      account_id: tx.accountId,
      name,
      epoch: selectFrom('fanfare.installation').select('epoch'),
      ...filterColumns(filter),
      narrowing: JSON.stringify(creator.narrowing),
      leased_to: startAfter ?? head,
      created_by: creator.id,
    }))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const { id } = await lockConsumer(tx, name);
  const consumer = await readConsumer(tx, id);
  requireSame(consumer, input);
  return consumer;
}

/** Ends a consumer with its leases. @throws EngineError NOT_FOUND */
export async function deleteConsumer(tx: Tx, name: string): Promise<string> {
  const { id } = await lockConsumer(tx, name);
  await tx.db.deleteFrom('fanfare.consumer').where('account_id', '=', tx.accountId).where('id', '=', id).execute();
  return id;
}

/** The account's consumer, locked until the end of the transaction. @throws EngineError NOT_FOUND */
export async function lockConsumer(tx: Tx, name: string): Promise<{ readonly id: string }> {
  const row = NAME.test(name)
    ? await tx.db
        .selectFrom('fanfare.consumer')
        .select('id')
        .where('account_id', '=', tx.accountId)
        .where('name', '=', name)
        .forUpdate()
        .executeTakeFirst()
    : undefined;
  if (row === undefined) throw noSuchConsumer(name);
  return row;
}

/** A consumer that is there, as it is now. */
export function readConsumer({ db, accountId }: Pick<Tx, 'db' | 'accountId'>, id: string): Promise<Consumer> {
  return db
    .selectFrom('fanfare.consumer_state')
    .selectAll()
    .where('account_id', '=', accountId)
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
}

/** Two at a time may both find the last place: the limit is there to bound, not to count. */
async function requireRoom(tx: Tx, name: string): Promise<void> {
  const { others } = await tx.db
    .selectFrom('fanfare.consumer')
    .select(sql<number>`count(*)::int`.as('others'))
    .where('account_id', '=', tx.accountId)
    .where('name', '<>', name)
    .executeTakeFirstOrThrow();
  if (others >= MAX_CONSUMERS) {
    throw new EngineError('CONFLICT', `the account has ${MAX_CONSUMERS} consumers, the most there may be`);
  }
}

function requireSame(consumer: Consumer, { name, filter, creator }: NewConsumer): void {
  const before = filterOf(consumer);
  for (const part of FILTER_PARTS) {
    if (filterKey([{ [part]: before[part] }]) === filterKey([{ [part]: filter[part] }])) continue;
    throw new EngineError(
      'CONFLICT',
      `the consumer "${name}" has another filter: its "${part}" is ${show(before[part])}, asked for was ${show(filter[part])}; delete it first, or take another name`,
    );
  }
  if (filterKey(consumer.narrowing) !== filterKey(creator.narrowing)) {
    throw new EngineError(
      'CONFLICT',
      `the consumer "${name}" was made by a key that may see other events; take another name`,
    );
  }
}

function show(values: readonly string[] | undefined): string {
  return values === undefined ? 'left out' : JSON.stringify(values).slice(0, 200);
}
