import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const BIN = fileURLToPath(new URL('../bin/fanfare.js', import.meta.url));
// Makes this Node claim to be an old one, so that the detour is taken on every machine.
const OLD = `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'20.1.0'}})`;
const PACKAGE = `node-${process.platform}-${process.arch}`;
const CLI = `
  export async function runCli(argv, env) {
    const said = JSON.stringify({ argv, cwd: env.PWD_MARK, pid: process.pid, node: process.versions.node });
    if (argv[0] !== 'wait') return console.log(said), argv.length;
    return new Promise((resolve) => {
      const timer = setInterval(() => {}, 1000);
      for (const name of ['SIGTERM', 'SIGHUP']) process.on(name, () => (console.log(name), clearInterval(timer), resolve(7)));
      console.log(said); // the sign that signals are heard
    });
  }`;

let dir: string;
let child: ChildProcess | undefined;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'fanfare-bin-'));
  mkdirSync(join(dir, 'bin'));
  mkdirSync(join(dir, 'src', 'cli'), { recursive: true });
  copyFileSync(BIN, join(dir, 'bin', 'fanfare.js'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  writeFileSync(join(dir, 'src', 'cli', 'main.ts'), CLI);
});

afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  rmSync(dir, { recursive: true, force: true });
});

test('the command is executable', () => {
  expect(statSync(BIN).mode & 0o111).toBe(0o111);
});

test('runs the command line in this process where Node is new enough', async () => {
  const { code, out } = await finish(run(['a', 'b c']));
  expect(JSON.parse(out)).toMatchObject({ argv: ['a', 'b c'], cwd: 'kept', pid: child?.pid });
  expect(code).toBe(2);
});

test('runs it again on the packaged Node where it is too old', async () => {
  packNode('24.21.0');
  const { code, out } = await finish(run(['a', '', '--flag'], { old: true }));
  expect(JSON.parse(out)).toMatchObject({ argv: ['a', '', '--flag'], cwd: 'kept', node: process.versions.node });
  expect(JSON.parse(out).pid).not.toBe(child?.pid);
  expect(code).toBe(3);
});

test.each(['SIGTERM', 'SIGHUP'] as const)('forwards %s, and gives back the exit code', async (signal) => {
  packNode('24.21.0');
  const started = run(['wait'], { old: true });
  const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]();
  await lines.next();
  started.kill(signal);
  expect((await lines.next()).value).toBe(signal);
  expect(await once(started, 'exit')).toEqual([7, null]);
});

test('ends by the signal that ended the inner process', async () => {
  packNode('24.21.0');
  const started = run(['wait'], { old: true });
  const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]();
  const { pid } = JSON.parse((await lines.next()).value ?? '');
  process.kill(pid, 'SIGKILL');
  expect(await once(started, 'exit')).toEqual([null, 'SIGKILL']);
});

test('tells the inner process to stop when the outer one is killed outright', async () => {
  packNode('24.21.0');
  const started = run(['wait'], { old: true });
  const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]();
  await lines.next();
  started.kill('SIGKILL');
  expect((await lines.next()).value).toBe('SIGTERM');
  expect((await lines.next()).done).toBe(true);
});

test.each<[string, () => void]>([
  ['none is packaged', () => {}],
  ['the packaged one is too old', () => packNode('22.0.0')],
  ['the packaged one can not run', () => packNode('24.21.0', '#!/nonexistent/interpreter\n')],
])('says what is needed where Node is too old and %s', async (_, prepare) => {
  prepare();
  const { code, out, err } = await finish(run([], { old: true }));
  expect(err).toMatch(/^fanfare: expected Node.js 24 or newer, found 20\.1\.0; install it, .*\n$/);
  expect({ code, out }).toEqual({ code: 1, out: '' });
});

function packNode(version: string, script?: string): void {
  const node = join(dir, 'node_modules', PACKAGE, 'bin', 'node');
  mkdirSync(dirname(node), { recursive: true });
  writeFileSync(join(dir, 'node_modules', PACKAGE, 'package.json'), JSON.stringify({ version }));
  if (script === undefined) symlinkSync(process.execPath, node);
  else writeFileSync(node, script, { mode: 0o755 });
}

function run(argv: string[], { old = false } = {}) {
  const preload = old ? ['--import', OLD] : [];
  const started = spawn(process.execPath, [...preload, join(dir, 'bin', 'fanfare.js'), ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PWD_MARK: 'kept' },
  });
  child = started;
  return started;
}

async function finish(started: ReturnType<typeof run>) {
  const [out, err, [code]] = await Promise.all([text(started.stdout), text(started.stderr), once(started, 'exit')]);
  return { code, out, err };
}
