import { setTimeout as wait } from 'node:timers/promises';
import { inspect } from 'node:util';

export interface EventuallyOptions {
  /** Generous, since a busy machine must not fail what is sound. @default 30_000 (ms) */
  readonly deadlineMs?: number;
  /** @default 10 (ms) */
  readonly everyMs?: number;
  /** What is waited for, as the end of "waited 10000 ms for …". */
  readonly describe?: string;
}

/**
 * Polls until `check` neither throws nor returns `false`, and gives what it returned. At the deadline it fails with the
 * last error; a check that hangs counts as one that has not passed.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { deadlineMs = 30_000, everyMs = 10, describe = check.toString() }: EventuallyOptions = {},
): Promise<Exclude<T, false>> {
  const deadline = performance.now() + deadlineMs;
  let last: unknown = new Error('the check never answered');
  for (;;) {
    const remainingMs = deadline - performance.now();
    if (remainingMs <= 0)
      throw new Error(`waited ${deadlineMs} ms for ${describe}: ${lastWords(last)}`, { cause: last });
    const outcome = await within(remainingMs, check);
    // Passed: `false` is the one value that is not an answer.
    if ('value' in outcome && outcome.value !== false) return outcome.value as Exclude<T, false>;
    if ('value' in outcome) last = new Error('the check returned false');
    if ('error' in outcome) last = outcome.error;
    await wait(everyMs);
  }
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown } | { readonly late: true };

async function within<T>(ms: number, check: () => T | Promise<T>): Promise<Outcome<T>> {
  const late = Promise.withResolvers<Outcome<T>>();
  // cleared, not aborted: an error with its stack for each look would take a tenth of all that some tests compute
  const timer = setTimeout(() => late.resolve({ late: true }), ms);
  const answer = Promise.resolve()
    .then(check)
    .then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
  const outcome = await Promise.race([answer, late.promise]);
  clearTimeout(timer);
  return outcome;
}

function lastWords(error: unknown): string {
  return error instanceof Error ? error.message : inspect(error);
}
