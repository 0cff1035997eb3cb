import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DataFolder, openDataFolder } from '../src/database/data-folder.ts';
import { StartupError } from '../src/errors.ts';

const STARTER = fileURLToPath(new URL('support/data-folder-starter.ts', import.meta.url));

let scratch: string;
const opened: DataFolder[] = [];
const starters: Starter[] = [];

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), 'fanfare-folder-')));
});

afterEach(async () => {
  for (const folder of opened.splice(0)) folder.close();
  await Promise.all(starters.splice(0).map((starter) => starter.kill()));
  rmSync(scratch, { recursive: true, force: true });
});

describe('the lock', () => {
  test('lets one of 20 racing starters in, ten times, each time after the owner was killed', async () => {
    const dir = join(scratch, 'data');
    let racers = startMany(20);
    for (let round = 0; round < 10; round++) {
      const answers = await Promise.all(racers.map((starter) => starter.ask(`open ${dir}`)));
      const winners = racers.filter((_, index) => answers[index]?.startsWith('held'));
      expect(winners).toHaveLength(1);
      expect(answers.filter((text) => text.startsWith('lost StartupError another process'))).toHaveLength(
        racers.length - 1,
      );
      await winners[0]?.kill();
      racers = racers.filter((starter) => starter !== winners[0]);
    }
  });

  test('lets one of 20 racing starters into a folder that is not there yet, ten times', async () => {
    const racers = startMany(20);
    for (let round = 0; round < 10; round++) {
      const dir = join(scratch, `data-${round}`);
      const answers = await Promise.all(racers.map((starter) => starter.ask(`open ${dir}`)));
      expect(answers.filter((text) => text.startsWith('held'))).toHaveLength(1);
      for (const starter of racers) starter.tell('close');
    }
  });

  test('control: a pid file that is checked, then taken, lets them all in', async () => {
    writeFileSync(join(scratch, 'pid'), '999999999');
    const racers = startMany(5, 'pid-file');
    const checks = await Promise.all(racers.map((starter) => starter.ask(`open ${scratch}`)));
    expect(checks).toEqual(Array(5).fill('checked'));
    const answers = await Promise.all(racers.map((starter) => starter.ask('take')));
    expect(answers.filter((text) => text.startsWith('held'))).toHaveLength(5);
  });

  test('names the live owner, the folder and what to do', async () => {
    const owner = start();
    await owner.ask(`open ${scratch}`);
    await expect(openDataFolder(scratch)).rejects.toThrow(
      `another process (pid ${owner.pid}) holds DATA_DIR ${scratch}; stop it or set another DATA_DIR`,
    );
    await expect(openDataFolder(scratch)).rejects.toBeInstanceOf(StartupError);
  });

  test('stays with an owner that is frozen', async () => {
    const owner = start();
    await owner.ask(`open ${scratch}`);
    process.kill(owner.pid, 'SIGSTOP');
    await expect(openDataFolder(scratch)).rejects.toThrow('another process');
  });

  test('stays with an owner whose garbage is collected', async () => {
    const owner = start();
    await owner.ask(`open ${scratch}`);
    expect(await owner.ask('forget')).toBe('forgotten');
    await expect(openDataFolder(scratch)).rejects.toThrow('another process');
  });

  test('is free at once when its owner is killed', async () => {
    const owner = start();
    await owner.ask(`open ${scratch}`);
    await owner.kill();
    await expect(open(scratch)).resolves.toMatchObject({ path: scratch });
  });

  test('keeps out a second caller in the same process, until the first closes', async () => {
    const first = await open(scratch);
    await expect(openDataFolder(scratch)).rejects.toThrow('another process');
    first.close();
    first.close();
    const second = await open(scratch);
    first.close();
    await expect(openDataFolder(scratch)).rejects.toThrow('another process');
    second.close();
  });

  test('sees one folder behind a symbolic link and a relative path', async () => {
    const dir = join(scratch, 'data');
    const folder = await open(dir);
    symlinkSync(dir, join(scratch, 'link'));
    await expect(openDataFolder(join(scratch, 'link'))).rejects.toThrow(folder.path);
    await expect(openDataFolder(relative(process.cwd(), dir))).rejects.toThrow(folder.path);
  });

  test('works at the end of a path longer than any socket address', async () => {
    const dir = join(scratch, ...Array(10).fill('a-folder-with-quite-a-long-name'));
    await open(dir);
    await expect(openDataFolder(dir)).rejects.toThrow(`pid ${process.pid}`);
  });

  test('survives reading and writing of every other file in the folder', async () => {
    const folder = await open(scratch);
    folder.readOrCreateSecret('admin-key', () => 'secret');
    folder.readOrCreateSecret('admin-key', () => 'secret');
    const rival = start();
    expect(await rival.ask(`open ${scratch}`)).toContain('lost StartupError another process');
  });
});

describe('the folder', () => {
  test('is created for its user alone', async () => {
    await open(join(scratch, 'a', 'b'));
    expect(mode(join(scratch, 'a', 'b'))).toBe(0o700);
  });

  test('is refused where a file is in its place, or above it', async () => {
    writeFileSync(join(scratch, 'file'), '');
    await expect(openDataFolder(join(scratch, 'file'))).rejects.toThrow('a file is in its place');
    await expect(openDataFolder(join(scratch, 'file', 'data'))).rejects.toThrow('a file is in its place');
    await expect(openDataFolder(join(scratch, 'file'))).rejects.toBeInstanceOf(StartupError);
  });

  test('is refused with the reason where it can not be created', async () => {
    await expect(openDataFolder('/proc/fanfare')).rejects.toThrow(
      /DATA_DIR: expected a folder .* found \/proc\/fanfare: EN/,
    );
  });

  // Only root may become another user, and root itself may write everywhere.
  test.runIf(process.getuid?.() === 0)('is refused where its user may not write', async () => {
    const dir = join(scratch, 'data');
    chmodSync(scratch, 0o755);
    mkdirSync(dir, { mode: 0o755 });
    const nobody = start({ uid: 65_534 });
    expect(await nobody.ask(`open ${dir}`)).toContain('lost StartupError DATA_DIR: expected a folder this user can');
    chmodSync(dir, 0o777);
    writeFileSync(join(dir, 'lock'), '', { mode: 0o600 });
    expect(await nobody.ask(`open ${dir}`)).toContain(`lost StartupError DATA_DIR: can't lock ${dir}`);
  });

  test('is refused when its lock is not a lock', async () => {
    writeFileSync(join(scratch, 'lock'), 'x'.repeat(5_000));
    await expect(openDataFolder(scratch)).rejects.toThrow(`can't lock ${scratch}: file is not a database`);
    mkdirSync(join(scratch, 'other', 'lock'), { recursive: true });
    await expect(openDataFolder(join(scratch, 'other'))).rejects.toThrow(StartupError);
  });
});

describe('a secret file', () => {
  test('is made once, for its user alone, and read from then on', async () => {
    const folder = await open(scratch);
    expect(folder.readOrCreateSecret('admin-key', () => 'first')).toBe('first');
    expect(folder.readOrCreateSecret('admin-key', () => 'second')).toBe('first');
    expect(mode(join(scratch, 'admin-key'))).toBe(0o600);
    expect(readFileSync(join(scratch, 'admin-key'), 'utf8')).toBe('first\n');
    expect(readdirSync(scratch).toSorted()).toEqual(['admin-key', 'lock', 'pid']);
  });

  test('is tightened when others may read it', async () => {
    writeFileSync(join(scratch, 'admin-key'), 'first\n', { mode: 0o644 });
    const folder = await open(scratch);
    expect(folder.readOrCreateSecret('admin-key', () => 'second')).toBe('first');
    expect(mode(join(scratch, 'admin-key'))).toBe(0o600);
  });

  test('is made whole over the leftover of a crash', async () => {
    writeFileSync(join(scratch, 'secrets-key.new'), 'half', { mode: 0o644 });
    const folder = await open(scratch);
    expect(folder.readOrCreateSecret('secrets-key', () => 'whole')).toBe('whole');
    expect(mode(join(scratch, 'secrets-key'))).toBe(0o600);
    expect(existsSync(join(scratch, 'secrets-key.new'))).toBe(false);
  });

  test.each([
    ['empty', ''],
    ['zeroes, as a crash may leave', '\0'.repeat(32)],
    ['two lines', 'one\ntwo'],
    ['binary', Buffer.from([0xff, 0xfe, 0x80])],
    ['huge', 'x'.repeat(2_000)],
  ])('is refused, and left as it is, when its content is %s', async (_, content) => {
    writeFileSync(join(scratch, 'admin-key'), content);
    const folder = await open(scratch);
    expect(() => folder.readOrCreateSecret('admin-key', () => 'second')).toThrow(StartupError);
    expect(readFileSync(join(scratch, 'admin-key'))).toEqual(Buffer.from(content));
  });

  test('is refused without being shown when its reader finds a fault', async () => {
    writeFileSync(join(scratch, 'admin-key'), 'hidden');
    const folder = await open(scratch);
    const read = () => folder.readOrCreateSecret('admin-key', () => 'new', { describeFault: () => 'a wrong checksum' });
    expect(read).toThrow('found a wrong checksum');
    expect(read).not.toThrow('hidden');
  });

  test('is refused when it is a folder', async () => {
    mkdirSync(join(scratch, 'admin-key'));
    const folder = await open(scratch);
    expect(() => folder.readOrCreateSecret('admin-key', () => 'new')).toThrow(StartupError);
  });
});

async function open(dir: string): Promise<DataFolder> {
  const folder = await openDataFolder(dir);
  opened.push(folder);
  return folder;
}

function mode(path: string): number {
  return statSync(path).mode & 0o777;
}

interface Starter {
  readonly pid: number;
  /** Sends a line and resolves with the next one. */
  ask(line: string): Promise<string>;
  tell(line: string): void;
  /** SIGKILL, awaited. */
  kill(): Promise<void>;
}

function startMany(count: number, ...args: string[]): Starter[] {
  return Array.from({ length: count }, () => start({}, ...args));
}

function start(options: { readonly uid?: number } = {}, ...args: string[]): Starter {
  const child = spawn(process.execPath, [STARTER, ...args], { ...options, stdio: ['pipe', 'pipe', 'inherit'] });
  const starter = asStarter(child);
  starters.push(starter);
  return starter;
}

function asStarter(child: ChildProcessByStdio<Writable, Readable, null>): Starter {
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exited = once(child, 'exit');
  if (child.pid === undefined) throw new Error('the starter did not start');
  return {
    pid: child.pid,
    ask: async (line) => {
      child.stdin.write(`${line}\n`);
      const next = await lines.next();
      return next.done ? 'lost: the starter ended' : next.value;
    },
    tell: (line) => void child.stdin.write(`${line}\n`),
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
