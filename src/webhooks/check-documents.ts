import { type GraphQLSchema, NoDeprecatedCustomRule, parse, validate } from 'graphql';
import type { Kysely, Selectable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { type DocumentFault, DocumentInvalid, toFault } from './refusals.ts';
import { createDocumentReader, type DocumentReader } from './selection.ts';
import { principalOf, type Webhook } from './webhook.ts';

/** A registered webhook as far as its documents go: what every version of the table has. */
type Registered = Pick<Selectable<EngineTables['fanfare.webhook']>, (typeof COLUMNS)[number]>;

const COLUMNS = [
  'id',
  'account_id',
  'description',
  'status',
  'parked_reason',
  'event_types',
  'document',
  'variables',
  'scopes',
  'narrowing',
] as const;

/** What this program's schema says of a webhook's documents. */
export interface CheckedWebhook {
  readonly id: string;
  readonly accountId: string;
  readonly description: string;
  readonly status: Webhook['status'];
  /** Whether it can't be sent to already now. */
  readonly isParked: boolean;
  /** With any of these its deliveries would be parked. */
  readonly broken: readonly DocumentFault[];
  /** What it uses that is deprecated. */
  readonly deprecated: readonly DocumentFault[];
}

/** Checks the documents of all registered webhooks against a schema, each under its webhook's grants. Reads only. */
export async function checkDocuments(
  db: Kysely<EngineTables>,
  { engine, schema }: { readonly engine: EngineServices; readonly schema: GraphQLSchema },
): Promise<readonly CheckedWebhook[]> {
  const documents = createDocumentReader({ engine, schema: () => schema });
  const rows = await db.selectFrom('fanfare.webhook').select(COLUMNS).orderBy('account_id').orderBy('id').execute();
  return rows.map((row) => ({
    id: row.id,
    accountId: row.account_id,
    description: row.description,
    status: row.status,
    isParked: row.parked_reason !== null,
    ...judge(row, documents, schema),
  }));
}

function judge(row: Registered, documents: DocumentReader, schema: GraphQLSchema) {
  const broken = findBroken(row, documents);
  // what is broken may not even be readable
  const deprecated = broken.length > 0 || row.document === null ? [] : findDeprecated(row.document, schema);
  return { broken, deprecated };
}

function findBroken(row: Registered, documents: DocumentReader): readonly DocumentFault[] {
  const principal = principalOf(row);
  const { document, variables } = row;
  if (document !== null) return faultsOf(() => documents.read(document, variables, principal));
  return (row.event_types ?? []).flatMap((type) =>
    faultsOf(() => documents.read(documents.defaultOf(type), {}, principal)),
  );
}

/** Whatever it is, it would park this webhook and no other. */
function faultsOf(read: () => unknown): readonly DocumentFault[] {
  try {
    read();
    return [];
  } catch (error) {
    if (error instanceof DocumentInvalid) return error.errors;
    const message = error instanceof EngineError ? error.message : `internal error: ${String(error)}`;
    return [{ message, line: null, column: null }];
  }
}

function findDeprecated(source: string, schema: GraphQLSchema): readonly DocumentFault[] {
  return validate(schema, parse(source), [NoDeprecatedCustomRule]).map(toFault);
}
