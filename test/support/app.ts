import { readConfig } from '../../src/config.ts';
import type { Domain } from '../../src/domain.ts';
import { describeKeyFault, makeKey } from '../../src/identity/key-format.ts';
import { type App, compose } from '../../src/main/compose.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { nearest } from '../../src/runtime/spelling.ts';
import { createEmbeddedFolder, createTestDatabase } from './database.ts';
import { redisUrl } from './redis.ts';

/** Where an app of a test keeps its data. */
export const BACKENDS = ['embedded', 'postgres', 'postgres and redis'] as const;
export type Backend = (typeof BACKENDS)[number];

export interface TestApp {
  readonly app: App;
  readonly url: string;
  readonly wsUrl: string;
  readonly key: string;
  /** The settings, for another process on the same data. */
  readonly env: Readonly<Record<string, string>>;
  readonly observations: readonly Observation[];
  /** Posts a GraphQL request with the admin key; gives the parsed answer. */
  post(query: string, variables?: Record<string, unknown>, headers?: Record<string, string>): Promise<GraphqlAnswer>;
  stop(): Promise<void>;
}

export interface GraphqlAnswer {
  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  readonly data?: any;
  readonly errors?: readonly { readonly message: string; readonly extensions: Readonly<Record<string, unknown>> }[];
}

export interface AppOptions {
  readonly backend: Backend;
  readonly domain: Domain;
  /** Of a domain whose tables the template database lacks. */
  readonly domainMigrations?: URL;
  readonly env?: Readonly<Record<string, string>>;
  /** For how long a quiet stream is told nothing of where it stands, in ms. */
  readonly checkpointMs?: number;
}

/** One receiver stands for those of all webhooks. */
const ONE_RECEIVER = { WEBHOOKS_PER_ORIGIN: '100000', WEBHOOK_ORIGIN_RATE: '1000000' };

/** Starts a whole server in this process, on data and a port of its own. */
export async function startApp({
  backend,
  domain,
  domainMigrations,
  env: extra = {},
  checkpointMs,
}: AppOptions): Promise<TestApp> {
  const { env: place, remove } = await createPlace(backend);
  const env = { PORT: '0', ADMIN_API_KEY: makeKey(), DRAIN_SECONDS: '1', ...ONE_RECEIVER, ...place, ...extra };
  const observations: Observation[] = [];
  const app = await compose({
    config: readConfig(env, { describeKeyFault, nearest }),
    domain,
    ...(domainMigrations === undefined ? {} : { domainMigrations }),
    ...(checkpointMs === undefined ? {} : { checkpointMs }),
    observe: (observation) => void observations.push(observation),
    onFatal: (error) => {
      throw error;
    },
  });
  const url = `http://127.0.0.1:${app.port}/graphql`;
  return {
    app,
    url,
    wsUrl: url.replace('http', 'ws'),
    key: env.ADMIN_API_KEY,
    env,
    observations,
    post: (query, variables, headers) => post({ url, key: env.ADMIN_API_KEY }, { query, variables }, headers),
    stop: async () => {
      await app.stop();
      await remove();
    },
  };
}

/** Posts a body to a server. */
export async function post(
  { url, key }: { readonly url: string; readonly key: string },
  body: unknown,
  headers: Record<string, string> = {},
): Promise<GraphqlAnswer> {
  const response = await fetch(url, {
    method: 'POST',
    // A connection of its own: on a busy machine an idle one may be closed by the server just when it is used again.
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, connection: 'close', ...headers },
    body: JSON.stringify(body),
  });
  return (await response.json()) as GraphqlAnswer;
}

async function createPlace(backend: Backend): Promise<{ env: Record<string, string>; remove(): Promise<void> }> {
  if (backend === 'embedded') {
    const { dataDir, remove } = await createEmbeddedFolder();
    return { env: { DATA_DIR: dataDir }, remove };
  }
  const { url, drop } = await createTestDatabase();
  const env = { DATABASE_URL: url, SECRETS_KEY: 'ab'.repeat(32), WEBHOOK_ALLOW_CIDRS: '127.0.0.0/8' };
  return { env: backend === 'postgres' ? env : { ...env, REDIS_URL: redisUrl() }, remove: drop };
}
