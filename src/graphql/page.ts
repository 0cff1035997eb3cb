import type { ArgumentRef, RootFieldBuilder, SchemaTypes } from '@pothos/core';
import type { Kysely, SelectQueryBuilder } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { invalidCursor } from '../outbox/cursor.ts';
import type { EngineBuilder } from './builder.ts';
import { checkPage, connectionRef, type Page, type PageArguments, toConnection } from './connection.ts';
import type { EngineContext } from './context.ts';
import type { EntityRow } from './loader.ts';
import { registryOf } from './registry.ts';
import { readVersionedRows } from './versioned-rows.ts';

/** A query of rows by Kysely, which `page` orders by id and cuts. */
export interface PageQuery<Row> {
  readonly execute: () => Promise<Row[]>;
  // the rest of Kysely's builder is used through `cut`, which knows no more of the table than its id
  readonly where: unknown;
}

interface ErasedPageOptions {
  readonly description: string;
  readonly scope: string | null;
  readonly args?: Record<string, ArgumentRef<SchemaTypes, unknown>>;
  readonly query: (context: EngineContext, args: unknown, parent: unknown) => PageQuery<EntityRow>;
}

/** A Relay connection of entities in order of their ids, which is the order in which they were made. */
export function pageField(
  t: RootFieldBuilder<SchemaTypes, unknown>,
  entity: { readonly name: string },
  options: ErasedPageOptions,
) {
  const builder = t.builder as unknown as EngineBuilder;
  if (options.scope !== null) registryOf(builder).scopes.add(options.scope);
  return t.field({
    type: connectionRef<EntityRow>(builder, entity.name, entity) as never,
    description: options.description,
    scope: options.scope,
    args: {
      ...options.args,
      first: t.arg.int({ description: 'At most 100; 50 if neither `first` nor `last` is given.' }),
      after: t.arg.string({ description: 'Behind this cursor.' }),
      last: t.arg.int({ description: 'From the end, at most 100.' }),
      before: t.arg.string({ description: 'Before this cursor.' }),
    },
    resolve: async (parent: unknown, args: unknown, context: unknown) => {
      // the builder fixes the context's type
      const engineContext = context as EngineContext;
      const page = checkPage(args as PageArguments);
      const cutQuery = cut(options.query(engineContext, args, parent), page);
      const rows = await readPage(engineContext, entity.name, cutQuery);
      return toConnection(page.from === 'oldest' ? rows : rows.reverse(), page, (row) => entityCursor(row.id));
    },
  } as never);
}

/** The rows in the order in which they are cut, known to the loaders with their versions. */
async function readPage({ read, accountId, loaders }: EngineContext, entity: string, { rows, order }: Cut) {
  // the same object, with the engine's own tables
  const engineRead = read as unknown as Kysely<EngineTables>;
  const found = await readVersionedRows(engineRead, { entity, accountId, rows, order });
  for (const { row, version } of found) loaders.prime(entity, row, version);
  return found.map(({ row }) => row);
}

interface Cut {
  readonly rows: SelectQueryBuilder<{ row: EntityRow }, 'row', EntityRow>;
  readonly order: 'asc' | 'desc';
}

function cut(query: PageQuery<EntityRow>, page: Page): Cut {
  let rows = query as unknown as Cut['rows'];
  const order = page.from === 'oldest' ? 'asc' : 'desc';
  if (page.after !== undefined) rows = rows.where('id', '>', readEntityCursor(page.after));
  if (page.before !== undefined) rows = rows.where('id', '<', readEntityCursor(page.before));
  return { rows: rows.orderBy('id', order).limit(page.limit + 1), order };
}

/** The place of a row in a list of entities. It holds nothing but its id, which its reader has anyway. */
export function entityCursor(id: string): string {
  return Buffer.from(`1:${id}`).toString('base64url');
}

/** @throws EngineError INVALID_CURSOR */
function readEntityCursor(cursor: string): string {
  const id = /^1:([a-z][a-z0-9]*_[0-9a-z]{1,64})$/.exec(
    cursor.length > 200 ? '' : Buffer.from(cursor, 'base64url').toString(),
  )?.[1];
  if (id === undefined) throw invalidCursor();
  return id;
}
