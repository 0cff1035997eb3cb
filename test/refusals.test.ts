import { mkdtemp, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { domain } from '#domain';
import { readConfig } from '../src/config.ts';
import { StartupError } from '../src/errors.ts';
import { describeKeyFault, makeKey } from '../src/identity/key-format.ts';
import { type App, compose } from '../src/main/compose.ts';
import { observeNothing } from '../src/runtime/observe.ts';
import { nearest } from '../src/runtime/spelling.ts';
import { createEmbeddedFolder, createTestDatabase } from './support/database.ts';
import { startFanfare, startRefused } from './support/fanfare-process.ts';
import { redisUrl } from './support/redis.ts';

const SECRETS_KEY = 'cd'.repeat(32);

/** What `npm start` does, in this process; its own settings are not looked at. */
async function start(env: Record<string, string>): Promise<App> {
  return compose({
    config: readConfig({ PORT: '0', ...env }, { describeKeyFault, nearest }),
    domain,
    observe: observeNothing,
    onFatal: (error) => {
      throw error;
    },
  });
}

/** The error that the program prints without a stack, whatever it says, and ends with: see `expectExit`. */
async function expectRefusal(env: Record<string, string>, message: RegExp): Promise<void> {
  const error = await start(env).then(
    (app) => app.stop(),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StartupError);
  expect(String(error)).toMatch(message);
}

/** One line on standard error, without a stack, and exit code 1. */
async function expectExit(env: Record<string, string>, message: RegExp): Promise<void> {
  const { code, output } = await startRefused(env);
  expect(output).toMatch(message);
  expect(output).not.toMatch(/\n\s+at /);
  expect(code).toBe(1);
}

function folder(): Promise<string> {
  return mkdtemp(join(inject('run').scratchDir, 'refused-'));
}

describe('a start that can not succeed says what to do', () => {
  it('for misspelt and impossible settings, all at once', async () => {
    const { output } = await startRefused({
      DATABSE_URL: 'postgres://x',
      PORT: 'http',
      RETENTION_DAYS: '3',
      REDIS_URL: 'redis://127.0.0.1:1',
    });
    for (const part of [/DATABSE_URL.*DATABASE_URL/, /PORT/, /RETENTION_DAYS.*7/, /REDIS_URL/])
      expect(output).toMatch(part);
  });

  it('for roles without servers to share', () => expectExit({ ROLES: 'api' }, /ROLES.*DATABASE_URL/s));

  it('for a Postgres that is not there', () =>
    expectExit(
      { DATABASE_URL: 'postgres://nobody:secret@127.0.0.1:1/none', SECRETS_KEY },
      /Postgres at 127\.0\.0\.1:1 can't be used.*DATABASE_URL/,
    ));

  it('for a Redis that is not there', async () => {
    const database = await createTestDatabase();
    await expectRefusal(
      { DATABASE_URL: database.url, SECRETS_KEY, REDIS_URL: 'redis://127.0.0.1:1' },
      /Redis.*127\.0\.0\.1:1/,
    );
    await database.drop();
  });

  it('for servers without a key of their own', async () => {
    const database = await createTestDatabase();
    await expectRefusal({ DATABASE_URL: database.url, REDIS_URL: redisUrl() }, /SECRETS_KEY/);
    await expectRefusal(
      { DATABASE_URL: database.url, REDIS_URL: redisUrl(), SECRETS_KEY },
      /ADMIN_API_KEY.*npx fanfare key new/,
    );
    await database.drop();
  });

  it("for another SECRETS_KEY than the database's, until the old one is given too", async () => {
    const database = await createTestDatabase();
    const env = { DATABASE_URL: database.url, ADMIN_API_KEY: makeKey(), SECRETS_KEY };
    await (await start(env)).stop();
    const other = { ...env, SECRETS_KEY: 'ab'.repeat(32) };
    await expectRefusal(other, /SECRETS_KEY is not the key .* SECRETS_KEY_PREVIOUS/);
    await (await start({ ...other, SECRETS_KEY_PREVIOUS: SECRETS_KEY })).stop();
    await expectRefusal(env, /SECRETS_KEY is not the key/);
    await database.drop();
  });

  it('for a port in use', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const address = other.address();
    const port = typeof address === 'object' && address !== null ? String(address.port) : '';
    const { dataDir, remove } = await createEmbeddedFolder();
    await expectRefusal({ DATA_DIR: dataDir, PORT: port }, new RegExp(`port ${port} .* in use.*PORT`));
    await remove();
    await new Promise((resolve) => other.close(resolve));
  });

  it('for a data folder that another process holds', async () => {
    const { dataDir, remove } = await createEmbeddedFolder();
    const holder = await startFanfare({ DATA_DIR: dataDir });
    await expectExit({ DATA_DIR: dataDir }, /another process \(pid \d+\).*DATA_DIR/);
    expect(await holder.stop()).toBe(0);
    await remove();
  });

  it('for a data folder that is a file', async () => {
    const file = join(await folder(), 'file');
    await writeFile(file, '');
    await expectRefusal({ DATA_DIR: file }, /DATA_DIR/);
  });

  it('for a second process without Redis, and for one without beside some with', async () => {
    const database = await createTestDatabase();
    const single = { DATABASE_URL: database.url, SECRETS_KEY, ADMIN_API_KEY: makeKey() };
    const cluster = { ...single, REDIS_URL: redisUrl() };
    const first = await start(single);
    await expectRefusal(single, /there can be only one/);
    await expectRefusal(cluster, /without REDIS_URL works on this database alone/);
    await first.stop();
    const shared = await start(cluster);
    await expectRefusal(single, /there can be only one/);
    await shared.stop();
    await database.drop();
  });
});
