import { ToolError, UsageError } from './command-line.ts';

/** What a program needs of its process: `process` fits. */
export interface Host {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
  exit(code: number): never;
}

/** Stops a program in order. */
export interface Stopping {
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Listens no more. */
  close(): void;
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
const INTERRUPTED = 130;
/** Ctrl-C comes twice at once under npm: from the terminal, and from npm, which passes it on. */
const ECHO_MS = 1_000;

export interface StopOptions {
  /** Called at the first signal. */
  readonly onStop: () => void;
  /** Monotonic milliseconds. @default performance.now */
  readonly now?: () => number;
}

/** Aborts at the first signal; ends the process at the second. */
export function stopOnSignals(host: Host, { onStop, now = () => performance.now() }: StopOptions): Stopping {
  const stopping = new AbortController();
  let stoppedAt = 0;
  const stop = () => {
    if (stopping.signal.aborted) {
      if (now() - stoppedAt > ECHO_MS) host.exit(INTERRUPTED);
      return;
    }
    stoppedAt = now();
    stopping.abort();
    onStop();
  };
  for (const signal of SIGNALS) host.on(signal, stop);
  return {
    signal: stopping.signal,
    close() {
      for (const signal of SIGNALS) host.off(signal, stop);
    },
  };
}

/**
 * Runs a program and tells its foreseen errors in one message each.
 * @param name as it is called by `npm run`
 * @returns its exit code: 1 for a ToolError, 2 for a UsageError
 * @throws anything else, which is a bug
 */
export async function runProgram(
  name: string,
  { main, say }: { readonly main: () => Promise<number>; readonly say: (text: string) => void },
): Promise<number> {
  try {
    return await main();
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof ToolError)) throw error;
    const isUsage = error instanceof UsageError;
    say(`${name}: ${error.message}${isUsage ? ` (see: npm run ${name} -- --help)` : ''}\n`);
    return isUsage ? 2 : 1;
  }
}
