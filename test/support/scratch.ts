import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { chmod, mkdtemp, realpath } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One temporary folder that holds everything a run of the tests leaves on the machine. */
export interface Scratch {
  readonly dir: string;
  /** Ends every process that works inside the folder, removes the folder, and resolves when both are done. */
  close(): Promise<void>;
}

/**
 * Makes the folder, and a keeper beside it: a shell in its own session, reading a pipe that only this process holds open.
 * When this process is gone, whatever ended it (`kill -9` included), the keeper does what `close()` does.
 *
 * @param parent in which it is made @default the system's folder for temporary files
 */
export async function openScratch(parent = tmpdir()): Promise<Scratch> {
  const dir = await realpath(await mkdtemp(join(parent, 'fanfare-test-')));
  const keeper = spawn('/bin/sh', ['-c', KEEPER, 'fanfare-test-keeper', dir], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const ended = once(keeper, 'exit');
  keeper.unref();
  if (keeper.stdin instanceof Socket) keeper.stdin.unref();
  // Servers may run under another account than ours, which must be able to reach its own folder in here.
  await chmod(dir, 0o711);
  return {
    dir,
    async close() {
      keeper.ref();
      keeper.stdin.end();
      await ended;
    },
  };
}

/**
 * The processes whose working directory is inside `dir`: a server is started there, and its children inherit it.
 * Unlike a number written to a file, this can't name a stranger that got the number later.
 */
export function processesIn(dir: string): readonly number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && isWithin(dir, workingDirectoryOf(entry)))
    .map(Number);
}

function workingDirectoryOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return ''; // it ended meanwhile, is a zombie, or belongs to somebody else
  }
}

function isWithin(dir: string, path: string): boolean {
  return path === dir || path.startsWith(`${dir}/`);
}

// QUIT is Postgres's immediate shutdown, CONT wakes those a test froze. A Postgres that a test had killed has left its
// lock file, whose line 7 names the System V memory to give back.
const KEEPER = `
trap '' HUP INT TERM
cat >/dev/null
dir=$1
signal_all() {
  found=1
  for link in /proc/[0-9]*/cwd; do
    case "$(readlink "$link" 2>/dev/null)" in
      "$dir"|"$dir"/*)
        pid=\${link#/proc/}; pid=\${pid%/cwd}; found=0
        for name in "$@"; do kill -s "$name" "$pid" 2>/dev/null; done ;;
    esac
  done
  return $found
}
if signal_all QUIT CONT; then
  tries=0
  while signal_all && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
  while signal_all KILL; do sleep 0.1; done
fi
for file in "$dir"/*/data/postmaster.pid; do
  [ -f "$file" ] && ipcrm -m "$(sed -n '7s/.* //p' "$file")" 2>/dev/null
done
rm -rf "$dir"
`;
