import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/servers.ts';

export const LANGUAGES = ['Node', 'Python'] as const;
export type Language = (typeof LANGUAGES)[number];

/** One of the example receivers, running. */
export interface ReceiverProcess {
  readonly url: string;
  /** The whole lines that it has printed. */
  lines(): readonly string[];
  close(): Promise<void>;
}

export interface ReceiverStart {
  readonly secret: string;
  /** @default a free one */
  readonly port?: number;
  /** Unix seconds at which its clock stands still. @default the machine's */
  readonly at?: number;
}

const FILES = {
  Node: fileURLToPath(new URL('../../examples/receiver-node.mjs', import.meta.url)),
  Python: fileURLToPath(new URL('../../examples/receiver-python.py', import.meta.url)),
};

/** Starts one as a reader would; resolves when it listens. */
export async function startReceiver(language: Language, { secret, port, at }: ReceiverStart): Promise<ReceiverProcess> {
  const bound = port ?? (await freePort());
  const { file, args } = commandOf(language, at);
  const child = spawn(file, [...args, String(bound)], {
    cwd: inject('run').scratchDir, // so that it can't outlive the run
    env: { ...process.env, WEBHOOK_SECRET: secret },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (printed += text));
  }
  const closed = once(child, 'close');
  await eventually(
    () => {
      if (!printed.includes('listening on')) throw new Error(`the receiver printed: ${printed}`);
    },
    { deadlineMs: 60_000 },
  );
  return {
    url: `http://127.0.0.1:${bound}/hook`,
    lines: () => printed.split('\n').slice(0, -1),
    async close() {
      child.kill();
      await closed;
    },
  };
}

function commandOf(language: Language, at: number | undefined) {
  const script = FILES[language];
  if (language === 'Node') {
    const preload = at === undefined ? [] : ['--import', `data:text/javascript,Date.now = () => ${at * 1_000}`];
    return { file: process.execPath, args: [...preload, script] };
  }
  if (at === undefined) return { file: 'python3', args: [script] };
  const preload = `import runpy, sys, time; time.time = lambda: ${at}; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')`;
  return { file: 'python3', args: ['-c', preload, script] };
}
