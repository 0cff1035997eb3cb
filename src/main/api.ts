import { sql } from 'kysely';
import type { Waiting } from '../consumers/waiting.ts';
import type { Database } from '../database/connect.ts';
import { createPrepareDocument } from '../graphql/operation.ts';
import { createGateway } from '../http/gateway.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { createKeyStore } from '../identity/keys.ts';
import { createShardFeeds } from '../live/feed.ts';
import { createHub, type Hub } from '../live/hub.ts';
import { systemClock } from '../runtime/clock.ts';
import { runLoop } from '../runtime/loop.ts';
import { provideConsumers } from './consumers.ts';
import { createRevocation } from './revocation.ts';
import { idleAfter, type RoleOptions, type Service } from './services.ts';

/** The HTTP side, and in the role `api` the live streams behind it. */
export interface Api {
  readonly server: HttpServer;
  readonly hub: Hub;
  /** Polls of consumers that wait for events. */
  readonly waiting: Waiting;
  readonly run: Service;
}

export interface ApiOptions extends RoleOptions {
  /** Aborts when the process is told to stop. */
  readonly draining: AbortSignal;
  readonly metrics: () => Promise<string>;
  /** For how long a quiet stream is told nothing of where it stands. @default 10_000 (ms) */
  readonly checkpointMs?: number | undefined;
}

/** How long a quiet stream is told nothing: far shorter than any retention, far rarer than it costs. */
const CHECKPOINT_MS = 10_000;

export function createApi({
  stores,
  engine,
  draining,
  config,
  observe,
  metrics,
  checkpointMs = CHECKPOINT_MS,
}: ApiOptions): Api {
  const { database, bus } = stores;
  const { services, schema } = engine;
  const feeds = createShardFeeds({ database, bus, observe });
  const hub = createHub({ database, cursors: services.cursors, feeds, clock: systemClock, observe, checkpointMs });
  const keys = createKeyStore(database);
  const waiting = provideConsumers({ services, feeds, keys, draining });
  const gateway = createGateway({
    schema,
    engine: services,
    prepareDocument: createPrepareDocument(schema),
    hub,
    keys,
    connections: stores.connections,
    observe,
  });
  const server = createHttpServer({
    schema,
    gateway,
    graphiql: config.graphiql,
    servesGraphql: config.roles.includes('api'),
    corsOrigins: config.corsOrigins,
    draining,
    readiness: () => readiness(database),
    metrics,
  });
  const run: Service = async (signal) => {
    await Promise.all([
      runLoop({ name: 'live.catch_up', everyMs: 200, signal, observe, work: createCatchUp(hub) }),
      runLoop({
        name: 'live.checkpoints',
        everyMs: Math.min(1_000, checkpointMs),
        signal,
        observe,
        work: idleAfter(async () => hub.tellQuiet()),
      }),
      createRevocation({ hub, keys, server, bus, observe })(signal),
      stores.connections.run(signal),
    ]);
    await hub.close();
  };
  return { server, hub, waiting, run };
}

/** Each second while the bus works, each 200 ms while it does not. */
function createCatchUp(hub: Hub): () => Promise<'idle'> {
  let calls = 0;
  return async () => {
    if (hub.isInterrupted() || calls++ % 5 === 0) await hub.catchUp();
    return 'idle';
  };
}

async function readiness(database: Database): Promise<string | undefined> {
  try {
    await sql`select 1`.execute(database.db);
    return undefined;
  } catch {
    return 'the database can not be reached';
  }
}
