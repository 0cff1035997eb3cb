// One starter in a race for a data folder. Lines on standard input: `open <dir>`, `take`, `close`, `forget`. It answers all but
// `close` with a line: `held <pid>` or `lost <message>`. `open` with the argument `pid-file` runs the control: a naive pid file, which
// checks on `open` (answer `checked`) and takes on `take`, so that a test can hold all starters between the two.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type DataFolder, openDataFolder } from '../../src/database/data-folder.ts';

const isNaive = process.argv[2] === 'pid-file';
let folder: DataFolder | undefined;
let naiveDir = '';

for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument = ''] = line.split(' ', 2);
  if (command === 'open') answer(isNaive ? check(argument) : await open(argument));
  if (command === 'take') answer(take());
  if (command === 'forget') answer(forget());
  if (command === 'close') folder?.close();
}

async function open(dir: string): Promise<string> {
  try {
    folder = await openDataFolder(dir);
    return `held ${process.pid}`;
  } catch (error) {
    return `lost ${error instanceof Error ? `${error.name} ${error.message}` : error}`;
  }
}

/** Drops the folder without closing it, and collects garbage. */
function forget(): string {
  folder = undefined;
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return 'forgotten';
}

function check(dir: string): string {
  naiveDir = dir;
  return existsSync(join(dir, 'pid')) && isAlive(Number(readFileSync(join(dir, 'pid'), 'utf8'))) ? 'lost' : 'checked';
}

function take(): string {
  writeFileSync(join(naiveDir, 'pid'), String(process.pid));
  return `held ${process.pid}`;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function answer(text: string): void {
  process.stdout.write(`${text}\n`);
}
