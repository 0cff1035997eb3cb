/** Waits between tries, and forgets the failures once something works. */
export interface Backoff {
  /** How long to wait before the next try, in ms: full jitter below a bound that doubles with each call. */
  next(): number;
  /** Something worked: begin again at the shortest wait. */
  reset(): void;
  /** Resets it if what begins now lasts; call what it gives at the end. */
  lasting(): () => void;
}

/** Wait at most BASE_MS, then twice as long each time up to CAP_MS. */
export const BASE_MS = 250;
export const CAP_MS = 15_000;

/** Builds one. `random` gives a number in [0, 1). @default Math.random */
export function createBackoff({
  random = Math.random,
}: {
  readonly random?: (() => number) | undefined;
} = {}): Backoff {
  let failures = 0;
  const reset = () => {
    failures = 0;
  };
  return {
    next() {
      const boundMs = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failures, 30));
      failures += 1;
      return Math.floor(random() * boundMs);
    },
    reset,
    lasting() {
      const timer = setTimeout(reset, CAP_MS);
      return () => clearTimeout(timer);
    },
  };
}

/** Resolves after so long, or at once when the signal aborts. Never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}
