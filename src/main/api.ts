import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import { EngineError } from '../errors.ts';
import { createPrepareDocument } from '../graphql/operation.ts';
import { createGateway } from '../http/gateway.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { createKeyStore, type KeyStore } from '../identity/keys.ts';
import { createShardFeeds } from '../live/feed.ts';
import { createHub, type Hub } from '../live/hub.ts';
import { systemClock } from '../runtime/clock.ts';
import { runLoop } from '../runtime/loop.ts';
import { idleAfter, type RoleOptions, type Service } from './services.ts';

/** The HTTP side, and in the role `api` the live streams behind it. */
export interface Api {
  readonly server: HttpServer;
  readonly hub: Hub;
  readonly run: Service;
}

export interface ApiOptions extends RoleOptions {
  readonly metrics: () => Promise<string>;
}

export function createApi({ stores, engine, config, observe, metrics }: ApiOptions): Api {
  const { database, bus } = stores;
  const { services, schema } = engine;
  const feeds = createShardFeeds({ database, bus, observe });
  const hub = createHub({ database, cursors: services.cursors, feeds, clock: systemClock, observe });
  const keys = createKeyStore(database);
  const gateway = createGateway({
    schema,
    engine: services,
    prepareDocument: createPrepareDocument(schema),
    hub,
    keys,
    observe,
  });
  const server = createHttpServer({
    schema,
    gateway,
    graphiql: config.graphiql,
    servesGraphql: config.roles.includes('api'),
    corsOrigins: config.corsOrigins,
    readiness: () => readiness(database),
    metrics,
  });
  const run: Service = async (signal) => {
    await Promise.all([
      runLoop({ name: 'live.catch_up', everyMs: 200, signal, observe, work: createCatchUp(hub) }),
      runLoop({
        name: 'live.revocation',
        everyMs: 1_000,
        signal,
        observe,
        work: idleAfter(() => endRevoked({ hub, keys, server })),
      }),
    ]);
    await hub.close();
  };
  return { server, hub, run };
}

/** Each second while the bus works, each 200 ms while it does not. */
function createCatchUp(hub: Hub): () => Promise<'idle'> {
  let calls = 0;
  return async () => {
    if (hub.isInterrupted() || calls++ % 5 === 0) await hub.catchUp();
    return 'idle';
  };
}

interface Revocation {
  readonly hub: Hub;
  readonly keys: KeyStore;
  readonly server: HttpServer;
}

/** Each second: what a key has lost ends what depends on it. */
async function endRevoked({ hub, keys, server }: Revocation): Promise<void> {
  const owners = new Set([...hub.owners(), ...server.socketOwners()]);
  const live = await keys.refresh([...owners].map((owner) => owner.replace(/^key_/, '')));
  server.refreshSockets(live);
  for (const owner of owners) {
    const principal = live.get(owner);
    if (principal === undefined) {
      hub.end(owner, new EngineError('UNAUTHENTICATED', 'the API key was revoked or has expired'));
      // the streams' errors go out first
      setImmediate(() => server.endSockets(owner));
    } else {
      const hasLost = (scopes: readonly string[]) => scopes.some((scope) => !principal.scopes.has(scope));
      hub.end(owner, new EngineError('FORBIDDEN', 'the API key has lost a scope that this operation needs'), hasLost);
    }
  }
}

async function readiness(database: Database): Promise<string | undefined> {
  try {
    await sql`select 1`.execute(database.db);
    return undefined;
  } catch {
    return 'the database can not be reached';
  }
}
