import { domain } from '#domain';
import type { Database } from '../database/connect.ts';
import { StartupError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { createCursorCodec } from '../outbox/cursor.ts';
import { systemClock } from '../runtime/clock.ts';
import { type CheckedWebhook, checkDocuments } from '../webhooks/check-documents.ts';
import { type Whereabouts, withDatabase } from './offline.ts';
import { completeSchema } from './schema.ts';

export type { CheckedWebhook };

/**
 * Checks the documents that are registered in a database against the schema of this program, before it is deployed: the
 * database may be of an older one, whose servers may run meanwhile. Reads only.
 * @throws StartupError where there is no installation
 */
export function checkRegistered(where: Whereabouts): Promise<readonly CheckedWebhook[]> {
  const schema = completeSchema(domain);
  return withDatabase(where, (database) =>
    checkDocuments(database.db, { engine: servicesOf(database), schema }).catch(explain),
  );
}

const UNDEFINED_TABLE = '42P01';

function explain(cause: unknown): never {
  if (!(cause instanceof Error && 'code' in cause && cause.code === UNDEFINED_TABLE)) throw cause;
  throw new StartupError('this database holds no Fanfare installation; start the server on it once', { cause });
}

/** Of an engine that reads documents and does nothing else. */
function servicesOf(database: Database): EngineServices {
  return {
    database,
    transact: () => Promise.reject(new Error('a check changes nothing')),
    catalog: domain.catalog,
    cursors: createCursorCodec({ secret: new Uint8Array(32) }, '0'.repeat(16)),
    clock: systemClock,
    registry: domain.registry,
    accountTables: new Set(),
    callsUnderWay: new Map(),
    keysChanged: () => {},
    rooms: new Map(),
  };
}
