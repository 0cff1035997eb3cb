/** When a delivery is tried again. */
export interface Schedule {
  /** Waits before the second attempt, the third and so on, in ms. */
  readonly delaysMs: readonly number[];
  /** From the first attempt to the last, at most; the last wait is repeated until then. Undefined: as long as there are waits. */
  readonly windowMs: number | undefined;
}

/**
 * At once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. Ten attempts over about 75.6 h, the example
 * schedule of Standard Webhooks 1.0.0, section "Deliverability and reliability".
 */
export const DEFAULT_SCHEDULE: Schedule = {
  delaysMs: [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000],
  windowMs: undefined,
};

/** Each wait is stretched or shortened by up to this part, so that an outage's retries do not return as one wave. */
export const JITTER = 0.1;

/** A receiver can't push the next attempt further away than this by `Retry-After`. */
export const MAX_RETRY_AFTER_MS = 86_400_000;

export interface AttemptState {
  /** Attempts made, at least 1. */
  readonly made: number;
  /** Since the first of them. */
  readonly elapsedMs: number;
  /** A number from [0, 1). */
  readonly random: number;
  /** What the receiver asked for, if it did: it lengthens a wait up to 24 h, and not beyond the window; it never shortens it. */
  readonly retryAfterMs?: number | undefined;
}

/**
 * How long to wait before the next attempt.
 * @returns ms, whole and not negative; undefined when the last attempt was made
 */
export function nextAttemptDelayMs({ delaysMs, windowMs }: Schedule, state: AttemptState): number | undefined {
  const base = delaysMs[state.made - 1] ?? (windowMs === undefined ? undefined : delaysMs.at(-1));
  if (base === undefined) return undefined;
  const jittered = Math.round(base * (1 + JITTER * (2 * state.random - 1)));
  const leftMs = windowMs === undefined ? Number.POSITIVE_INFINITY : windowMs - state.elapsedMs;
  if (jittered > leftMs) return undefined;
  const asked = Math.min(state.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS);
  return Math.min(Math.max(jittered, asked), Math.floor(leftMs));
}
