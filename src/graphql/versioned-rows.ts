import type { Kysely, SelectQueryBuilder } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EntityRow } from './loader.ts';

/** A row of an entity's table, and the version of its subject at the same moment. */
export interface VersionedRow {
  readonly row: EntityRow;
  /** 0 before its first event. */
  readonly version: number;
}

export interface VersionedRowsRequest {
  readonly entity: string;
  readonly accountId: string;
  /** The rows: all columns of the entity's table, and none named as `VERSION`. */
  readonly rows: unknown;
  /** The order of their ids; none if undefined. */
  readonly order?: 'asc' | 'desc';
}

/** The name that no table of a domain has for a column. */
const VERSION = 'fanfare_subject_version';

type AnyRows = Kysely<Record<'found', EntityRow> & EngineTables>;

/**
 * Reads rows with their versions in one statement. In two, changes may come in between: a version newer than its row would
 * make a client that folds events over the row skip one.
 */
export async function readVersionedRows(
  read: Kysely<EngineTables>,
  { entity, accountId, rows, order }: VersionedRowsRequest,
): Promise<VersionedRow[]> {
  const found = (rows as SelectQueryBuilder<EngineTables, never, EntityRow>).as('found'); // which tables a domain has is not known to the engine's types
  const query = (read as unknown as AnyRows)
    .selectFrom(found as unknown as 'found')
    .leftJoin('fanfare.subject as s', (join) =>
      join.on('s.account_id', '=', accountId).on('s.type', '=', entity).onRef('s.id', '=', 'found.id'),
    )
    .selectAll('found')
    .select(`s.version as ${VERSION}`);
  const versioned = await (order === undefined ? query : query.orderBy('found.id', order)).execute();
  return versioned.map(({ [VERSION]: version, ...row }) => ({ row: row as EntityRow, version: version ?? 0 }));
}
