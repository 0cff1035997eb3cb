import { sql } from 'kysely';
import { z } from 'zod';
import type { Database } from '../database/connect.ts';
import { StartupError } from '../errors.ts';
import type { EventDefinition } from './event.ts';

/** All events that this program declares, by their names. */
export interface Catalog {
  readonly events: readonly EventDefinition[];
  byName(name: string): EventDefinition | undefined;
}

/** @throws Error if two events have one name, or one name in the graph. */
export function createCatalog(events: readonly EventDefinition[]): Catalog {
  const byName = new Map<string, EventDefinition>();
  const typeNames = new Set<string>();
  for (const event of events) {
    if (byName.has(event.name)) throw new Error(`event "${event.name}" is declared twice`);
    if (typeNames.has(event.typeName))
      throw new Error(`event "${event.name}": another event is ${event.typeName} in the graph already`);
    byName.set(event.name, event);
    typeNames.add(event.typeName);
  }
  return { events: [...events], byName: (name) => byName.get(name) };
}

/**
 * Brings a stored payload to the declared version.
 * @throws Error if the stored version is newer than the declared one, or an upcast fails.
 */
export function upcast(
  event: EventDefinition,
  payload: Record<string, unknown>,
  version: number,
): Record<string, unknown> {
  if (version > event.version) {
    throw new Error(`event "${event.name}" is stored in version ${version}, this program knows ${event.version}`);
  }
  let current = payload;
  for (let older = version; older < event.version; older++) {
    const step = event.upcast?.[older];
    if (step === undefined) throw new Error(`event "${event.name}" has no upcast from version ${older}`);
    current = step(current);
  }
  return current;
}

/** A captured event as far as its payload is judged. */
export interface CapturedPayload {
  readonly name: string;
  readonly payload: Record<string, unknown>;
  readonly payload_version: number;
}

/**
 * Whether this program can judge the payload: `emit` takes only types and versions that some program has declared in this
 * database, so one that it does not know is a newer program's, in the middle of a deploy.
 */
export function isKnown(catalog: Catalog, { name, payload_version }: CapturedPayload): boolean {
  const event = catalog.byName(name);
  return event !== undefined && payload_version <= event.version;
}

/** Why a payload that came through SQL can't be shown, or undefined if it can. */
export function payloadFault(catalog: Catalog, row: CapturedPayload): string | undefined {
  const event = catalog.byName(row.name);
  if (event === undefined) return `this program declares no event "${row.name}"`;
  try {
    const result = event.schema.safeParse(upcast(event, row.payload, row.payload_version));
    return result.success ? undefined : z.prettifyError(result.error);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Writes the catalog into `fanfare.event_type`, for `fanfare.emit`. A type that the code no longer declares stays there
 * while the log holds events of it.
 * @throws StartupError if a newer program has raised a version here, or the log holds events that the code no longer declares.
 */
export async function syncEventTypes(database: Database, catalog: Catalog): Promise<void> {
  const known = await database.db.selectFrom('fanfare.event_type').select(['name', 'version']).execute();
  for (const { name, version } of known) {
    const event = catalog.byName(name);
    if (event === undefined) await forgetUnused(database, name);
    else if (event.version < version) {
      throw new StartupError(
        `event "${name}" is in version ${version} in this database, this program declares ${event.version}: start the newer program`,
      );
    }
  }
  for (const event of catalog.events) await writeEventType(database, event);
}

async function forgetUnused(database: Database, name: string): Promise<void> {
  const used = await database.db
    .selectFrom('fanfare.event')
    .select('seq')
    .where('name', '=', name)
    .limit(1)
    .executeTakeFirst();
  if (used !== undefined) {
    throw new StartupError(
      `the log holds events named "${name}", which this program no longer declares: keep its defineEvent until they are past retention`,
    );
  }
  // one that was declared in this hour may be a newer program's, which this one starts beside in a deploy
  await sql`delete from fanfare.event_type where name = ${name} and synced_at < fanfare.now() - interval '1 hour'`.execute(
    database.db,
  );
}

async function writeEventType(database: Database, event: EventDefinition): Promise<void> {
  const related = event.related.map(
    (path) =>
      `$${path
        .split('.')
        .map((key) => `."${key}"`)
        .join('')}`,
  );
  const schema = JSON.stringify(z.toJSONSchema(event.schema));
  await sql`
    insert into fanfare.event_type as t (name, kind, version, subject_type, scope, related, schema)
    values (${event.name}, ${event.kind}, ${event.version}, ${event.subject}, ${event.scope}, ${related}::text[], ${schema}::jsonb)
    on conflict (name) do update set kind = excluded.kind, version = excluded.version, subject_type = excluded.subject_type,
      scope = excluded.scope, related = excluded.related, schema = excluded.schema, synced_at = fanfare.now()
    where (t.kind, t.version, t.subject_type, t.scope, t.related, t.schema)
      is distinct from (excluded.kind, excluded.version, excluded.subject_type, excluded.scope, excluded.related, excluded.schema)
  `.execute(database.db);
}
