import { afterAll, beforeAll } from 'vitest';
import { eventually } from './eventually.ts';

/** What keeps a process alive that a test opened: listeners, connections, child processes. */
const WATCHED = ['TCPServerWrap', 'TCPSocketWrap', 'ProcessWrap'];

let before = 0; // one per test file: this file is run again before each

beforeAll(() => {
  before = watched().length;
});

// Registered before any of the file's own, hence run after them all.
afterAll(async () => {
  const check = () => {
    const open = watched();
    if (open.length > before) throw new Error(`still open: ${open.join(', ')} (${before} of these when it began)`);
  };
  await eventually(check, { deadlineMs: 15_000, describe: 'this file to close its listeners, sockets and processes' });
});

function watched(): readonly string[] {
  return process.getActiveResourcesInfo().filter((name) => WATCHED.includes(name));
}
