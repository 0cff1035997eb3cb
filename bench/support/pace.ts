import { setTimeout as wait } from 'node:timers/promises';

/** What a closed load has done. */
export interface Throughput {
  readonly count: number;
  readonly seconds: number;
}

/** Resolves at the next multiple of so many ms of this process's clock. */
export async function untilBeat(everyMs: number): Promise<void> {
  await wait(everyMs - (performance.now() % everyMs));
}

/** Starts calls at a steady rate. @returns how late the latest was started, in ms */
export async function steadily(
  { perSecond, count }: { readonly perSecond: number; readonly count: number },
  call: (at: number) => Promise<unknown>,
): Promise<number> {
  const startedAt = performance.now();
  const calls: Promise<unknown>[] = [];
  let latest = 0;
  for (let at = 0; at < count; at++) {
    const dueAt = startedAt + (at * 1_000) / perSecond;
    const earlyMs = dueAt - performance.now();
    if (earlyMs > 0) await wait(earlyMs);
    latest = Math.max(latest, performance.now() - dueAt);
    const made = call(at);
    made.catch(() => {}); // thrown below
    calls.push(made);
  }
  await Promise.all(calls);
  return latest;
}

/** Lets so many callers call, one call after another each, for that long; calls under way then are finished and counted. */
export async function repeatedly(
  { concurrency, seconds }: { readonly concurrency: number; readonly seconds: number },
  call: () => Promise<unknown>,
): Promise<Throughput> {
  const startedAt = performance.now();
  const until = startedAt + seconds * 1_000;
  let count = 0;
  const caller = async () => {
    for (; performance.now() < until; count++) await call();
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return { count, seconds: (performance.now() - startedAt) / 1_000 };
}
