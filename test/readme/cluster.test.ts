import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { withClient } from '../support/postgres-client.ts';
import { redisUrl } from '../support/redis.ts';
import { freePort } from '../support/servers.ts';
import { blocksFor } from './blocks.ts';
import { checkOut, type Project } from './project.ts';
import type { Terminal } from './terminal.ts';

// The README's three processes on Postgres and Redis, its containers' settings, and its SQL, as printed but for addresses.

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 }); // each command may take its time on a busy machine

const pages = blocksFor('cluster');
let project: Project;
let database: TestDatabase;
let reader: Terminal;

beforeAll(async () => {
  [project, database] = await Promise.all([checkOut(), createTestDatabase()]);
  reader = project.open({ LOG_LEVEL: 'error', DRAIN_SECONDS: '1' });
});

afterAll(async () => {
  await reader?.close();
  await database?.drop();
  await rm(project.dir, { recursive: true, force: true });
});

test('starts three processes, which an observer reaches by the key in the environment', async () => {
  const [relayPort, webhooksPort] = await Promise.all([freePort(), freePort()]);
  const block = pages
    .take('README.md', 'export DATABASE_URL')
    .replace('postgres://user:password@127.0.0.1:5432/fanfare', database.url)
    .replace('redis://127.0.0.1:6379', redisUrl())
    .replace('PORT=4000', `PORT=${project.port}`)
    .replace('PORT=4010', `PORT=${relayPort}`)
    .replace('PORT=4020', `PORT=${webhooksPort}`)
    .replace(/^(npx fanfare watch) .*$/m, '$1 &'); // a reader leaves it in the foreground; this one goes on typing
  await reader.run(block);
  await reader.untilPrints(/fanfare: connected/);
  for (const role of ['api', 'relay', 'webhooks']) await reader.untilPrints(new RegExp(`Fanfare serves ${role} on`));
});

test('emits by SQL, from a program that may do nothing else', async () => {
  const program = `${inject('run').prefix}_program_${randomBytes(3).toString('hex')}`;
  await withClient(database.url, (client) => client.query(`create role ${program}`));
  const script = pages
    .take('README.md', 'grant usage')
    .replace('your_program', program)
    .replace('begin;', `set role ${program};\nbegin;`);
  const { stdout } = await promisify(execFile)('psql', [database.url, '--set=ON_ERROR_STOP=1', '-qAt', '-c', script]);
  const [id] = /evt_\w+/.exec(stdout) ?? [];
  const [line] = await reader.untilPrints(/^\{.*prod_legacy42.*$/m);
  expect(JSON.parse(line)).toMatchObject({ id, name: 'product.created', subjectId: 'prod_legacy42' });
  await withClient(database.url, (client) => client.query(`drop owned by ${program}; drop role ${program}`));
});

test('stops the three by their numbers', async () => {
  await reader.run('kill %1 %2 %3; wait %1 %2 %3');
  await expect(fetch(`http://127.0.0.1:${project.port}/healthz`)).rejects.toThrow('fetch failed');
});

test('gives the containers the two settings that they refuse to start without', async () => {
  const terminal = project.open();
  // there is no Docker in the tests: what it would be given is printed in its place
  await terminal.run('docker() { echo "docker $* with $SECRETS_KEY and $ADMIN_API_KEY"; }');
  const printed = await terminal.run(pages.take('README.md', 'export SECRETS_KEY'));
  await terminal.close();
  const compose = await readFile(join(project.dir, 'compose.yaml'), 'utf8');
  const required = [...compose.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name);
  expect(new Set(required)).toEqual(new Set(['SECRETS_KEY', 'ADMIN_API_KEY']));
  expect(printed).toMatch(/^docker compose up with [0-9a-f]{64} and ff_\w{12}_\w{32}_[0-9a-f]{8}$/m);
});

test('has run all its blocks', () => {
  expect(pages.untaken()).toEqual([]);
});
