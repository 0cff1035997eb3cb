import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inject } from 'vitest';
import { makeKey } from '../../../src/identity/key-format.ts';
import { createTestDatabase } from '../database.ts';
import { startTestRedis } from '../redis.ts';
import type { RedisServer } from '../redis-server.ts';
import { type RoleProcess, startRole } from './role-process.ts';

/**
 * - *cluster*: `api` takes the changes, `live` (another api) serves WebSocket and SSE, `relay`, `webhooks`; Postgres, Redis;
 * - *three*: `api` serves all clients, `relay`, `webhooks`; Postgres, Redis;
 * - *embedded*: one process, `server`, and its folder.
 */
export type Form = 'cluster' | 'three' | 'embedded';

/** Fanfare as somebody runs it. */
export interface Deployment {
  readonly key: string;
  readonly roles: ReadonlyMap<string, RoleProcess>;
  /** Takes the changes, answers queries. */
  readonly api: RoleProcess;
  /** Serves the streams. */
  readonly live: RoleProcess;
  /** Its own; undefined where there is none. */
  readonly redis: RedisServer | undefined;
  /** Lets all stop in order. @returns the exit codes, by name */
  stop(): Promise<Readonly<Record<string, number | null>>>;
  /** Ends what still runs, and removes what it kept. */
  close(): Promise<void>;
}

const ROLES: Readonly<Record<Form, Readonly<Record<string, string>>>> = {
  cluster: { api: 'api', live: 'api', relay: 'relay', webhooks: 'webhooks' },
  three: { api: 'api', relay: 'relay', webhooks: 'webhooks' },
  embedded: { server: 'api,relay,webhooks' },
};

/** Starts all its processes and waits until they serve. */
export async function deploy(form: Form): Promise<Deployment> {
  await using opening = new AsyncDisposableStack();
  const place = form === 'embedded' ? await embeddedPlace() : await sharedPlace();
  opening.defer(place.remove);
  const key = makeKey();
  const env = { ADMIN_API_KEY: key, DRAIN_SECONDS: '1', ...place.env };
  const roles = new Map<string, RoleProcess>();
  opening.defer(async () => {
    await Promise.all([...roles.values()].map((role) => role.end()));
  });
  for (const [name, role] of Object.entries(ROLES[form])) {
    roles.set(name, await startRole(name, { ...env, ROLES: role }));
  }
  await Promise.all([...roles.values()].map((role) => role.stands()));
  const [first] = roles.values();
  if (first === undefined) throw new Error(`no process in the form ${form}`);
  const opened = opening.move();
  return {
    key,
    roles,
    api: first,
    live: roles.get('live') ?? first,
    redis: place.redis,
    async stop() {
      const codes = await Promise.all([...roles].map(async ([name, role]) => [name, await role.stop()] as const));
      return Object.fromEntries(codes);
    },
    close: () => opened.disposeAsync(),
  };
}

interface Place {
  readonly env: Readonly<Record<string, string>>;
  readonly redis: RedisServer | undefined;
  remove(): Promise<void>;
}

async function sharedPlace(): Promise<Place> {
  const [database, redis] = await Promise.all([createTestDatabase(), startTestRedis()]);
  return {
    env: {
      DATABASE_URL: database.url,
      REDIS_URL: redis.url,
      SECRETS_KEY: 'ab'.repeat(32),
      WEBHOOK_ALLOW_CIDRS: '127.0.0.0/8',
    },
    redis,
    async remove() {
      await redis.close();
      await database.drop();
    },
  };
}

async function embeddedPlace(): Promise<Place> {
  const dataDir = await mkdtemp(join(inject('run').scratchDir, 'killed-'));
  const remove = () => rm(dataDir, { recursive: true, force: true });
  return { env: { DATA_DIR: dataDir }, redis: undefined, remove };
}
