import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { inject } from 'vitest';
import { eventually } from '../support/eventually.ts';

/** A shell that a reader has open. */
export interface Terminal {
  /** Types the lines and waits until all have run, at most 3 min; gives what was printed meanwhile. */
  run(lines: string): Promise<string>;
  /** Types lines of which the last stays in the foreground. */
  start(lines: string): void;
  /** Waits until whole lines that match are printed, now or earlier; gives the match. */
  untilPrints(pattern: RegExp): Promise<RegExpExecArray>;
  /** Ends it with all that runs in it. Resolves when nothing is left. */
  close(): Promise<void>;
}

export interface TerminalOptions {
  /** The folder it is in; inside the run's scratch folder, so that nothing in it outlives the run. */
  readonly cwd: string;
  /** On top of the machine's own PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Only tells what hangs from what is slow: `npm run check` took a minute on a machine with ten times its load. */
const PATIENCE_MS = 180_000;

/** Opens a bash without a terminal's comforts: no prompt, no profile. */
export function openTerminal({ cwd, env = {} }: TerminalOptions): Terminal {
  const { PATH = '', HOME = '' } = process.env;
  const cache = join(inject('run').scratchDir, 'compile-cache'); // npm and the server start in half the time
  const shell = spawn('bash', ['--norc', '--noprofile'], {
    cwd,
    // npm must find everything here: it is not to ask the registry
    env: {
      PATH,
      HOME,
      NO_COLOR: '1',
      NODE_COMPILE_CACHE: cache,
      npm_config_offline: 'true',
      npm_config_update_notifier: 'false',
      ...env,
    },
    detached: true, // a process group of its own, with all that runs in it
    stdio: 'pipe',
  });
  let printed = '';
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (printed += text));
  }
  shell.stdin.on('error', () => {}); // it has ended
  const closed = once(shell, 'close');
  const describe = (what: string) => ({ deadlineMs: PATIENCE_MS, describe: `${what}; printed so far:\n${printed}` });
  return {
    async run(lines) {
      const from = printed.length;
      const mark = `done-${randomBytes(6).toString('hex')}`;
      shell.stdin.write(`${lines}\necho; echo ${mark}\n`);
      await eventually(() => printed.includes(`\n${mark}\n`), describe(`the shell to run ${lines}`));
      return printed.slice(from).replace(`\n${mark}\n`, '');
    },
    start: (lines) => void shell.stdin.write(`${lines}\n`),
    untilPrints: (pattern) =>
      eventually(
        () => {
          const match = pattern.exec(printed.slice(0, printed.lastIndexOf('\n') + 1));
          if (match === null) throw new Error(`printed so far:\n${printed}`);
          return match;
        },
        describe(`${pattern}`),
      ),
    async close() {
      shell.stdin.end();
      endGroup(shell.pid);
      await closed; // all that held its output is gone
    },
  };
}

function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGTERM');
  } catch {
    // nothing is left of it
  }
}
