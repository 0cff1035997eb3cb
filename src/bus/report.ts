import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';

/** Reports one kind of trouble: its facts are those of the latest case. */
export type Report = (facts: Readonly<Record<string, unknown>>) => void;

/**
 * Makes a report that can't flood: the first case is observed at once, then at most one per `everyMs`, whose `count` says
 * how many cases it stands for. Cases after the last observation stay unreported until the next one comes.
 */
export function sampledReport(
  name: string,
  { observe, clock, everyMs = 5_000 }: { readonly observe: Observe; readonly clock: Clock; readonly everyMs?: number },
): Report {
  let count = 0;
  let lastMs = Number.NEGATIVE_INFINITY;
  return (facts) => {
    count += 1;
    const nowMs = clock.now();
    if (nowMs - lastMs < everyMs) return;
    observe({ ...facts, name, count });
    count = 0;
    lastMs = nowMs;
  };
}
