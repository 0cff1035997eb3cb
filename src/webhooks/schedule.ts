/**
 * The waits before each attempt, in ms: at once, then 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. Ten attempts over
 * about 75.6 h, the example schedule of Standard Webhooks 1.0.0, section "Deliverability and reliability".
 */
export const ATTEMPT_DELAYS_MS: readonly number[] = [
  0, 5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000,
];

/** Each wait but the first is stretched or shortened by up to this part, so that an outage's retries do not return as one wave. */
export const JITTER = 0.1;

/** A receiver can't push the next attempt further away than this by `Retry-After`. */
export const MAX_RETRY_AFTER_MS = 86_400_000;

/**
 * How long to wait before the next attempt.
 *
 * @param state.attempt how many attempts were made: 0 before the first
 * @param state.random a number from [0, 1)
 * @param state.retryAfterMs what the receiver asked for, if it did; it lengthens the wait up to 24 h, never shortens it
 * @returns ms, whole and not negative; undefined when the last attempt was made
 */
export function nextAttemptDelayMs(state: {
  readonly attempt: number;
  readonly random: number;
  readonly retryAfterMs?: number | undefined;
}): number | undefined {
  const base = ATTEMPT_DELAYS_MS[state.attempt];
  if (base === undefined) return undefined;
  const jittered = Math.round(base * (1 + JITTER * (2 * state.random - 1)));
  return Math.max(jittered, Math.min(state.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS));
}

/**
 * Reads a `Retry-After` header: seconds, or an HTTP-date.
 *
 * @param nowMs Unix milliseconds, against which a date is measured
 * @returns ms from now, at least 0; undefined if the header is absent or of neither form
 * @see RFC 9110 section 10.2.3
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  // Any run of digits is legal; past the cap only the fact counts.
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, Number.MAX_SAFE_INTEGER);
  if (!HTTP_DATE.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}

/** IMF-fixdate, the one form a sender may write (RFC 9110 section 5.6.7); `Date.parse` alone would take "5". */
const HTTP_DATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;
