import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { inject } from 'vitest';
import { childEnv } from './child-env.ts';

export interface ProbeServer {
  readonly url: string;
  readonly pid: number;
  /** Resolves with the signal that ended it, if one did. */
  readonly exited: Promise<NodeJS.Signals | null>;
  /** Collects its garbage. @returns the bytes that it still uses, which the load of other processes does not change */
  collect(): Promise<number>;
  /** Lets it drain and stop. */
  stop(): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts `probe-process.ts` on existing data, in the run's folder, so that it can't outlive the run. */
export async function startProbeServer(env: Readonly<Record<string, string>>): Promise<ProbeServer> {
  const child: ChildProcess = fork(new URL('probe-process.ts', import.meta.url), {
    env: { ...childEnv(), ...env, PORT: '0' },
    execArgv: ['--expose-gc'],
    cwd: inject('run').scratchDir,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit').then(([, signal]) => signal as NodeJS.Signals | null);
  const refuse = () => Promise.reject(new Error('expected the server to answer, but it has ended'));
  const early = exited.then(refuse);
  early.catch(() => {});
  const [message] = (await Promise.race([once(child, 'message'), early])) as [{ port: number }];
  return {
    url: `http://127.0.0.1:${message.port}/graphql`,
    pid: child.pid ?? 0,
    exited,
    kill: (signal) => void child.kill(signal),
    async collect() {
      const answered = once(child, 'message');
      child.send('collect');
      const [{ usedBytes }] = (await Promise.race([answered, exited.then(refuse)])) as [{ usedBytes: number }];
      return usedBytes;
    },
    async stop() {
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}
