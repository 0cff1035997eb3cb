import { readFileSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';

const MEMORY_FOLDER = '/dev/shm';
/** A run holds at most 0.4 GB at a time (measured); the rest is for what a test under work may do. */
const NEEDED_BYTES = 4 * 1024 ** 3;

/**
 * Where a run keeps its servers' data: in memory where the machine has it to spare, else in the system's folder for temporary
 * files. Each test has databases of its own, of 860 files each: in memory the whole run takes half as much of the kernel's time.
 */
export function chooseScratchParent(): string {
  return hasRoom() && mayRunPrograms() ? MEMORY_FOLDER : tmpdir();
}

function hasRoom(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_FOLDER);
    return bavail * bsize >= NEEDED_BYTES && process.availableMemory() >= 2 * NEEDED_BYTES;
  } catch {
    return false; // there is none
  }
}

/** In containers it is often mounted so that nothing in it can be run. */
function mayRunPrograms(): boolean {
  const mount = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, folder]) => folder === MEMORY_FOLDER);
  return mount?.[2] === 'tmpfs' && !mount[3]?.split(',').includes('noexec');
}
