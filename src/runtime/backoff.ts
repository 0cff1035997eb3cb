/** How long to wait between attempts that keep failing. */
export interface Backoff {
  /** The ceiling of the first wait, in milliseconds; it doubles with each failure. */
  readonly baseMs: number;
  /** The highest ceiling, in milliseconds. */
  readonly capMs: number;
}

/**
 * The wait after the given failure (0 is the first), in whole milliseconds: exponential with full jitter, a uniform
 * choice from [0, min(capMs, baseMs · 2^failure)). Full jitter, because many processes lose one server at one moment
 * and must not return to it at one moment.
 *
 * @param random a number in [0, 1), like `Math.random`
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffMs(failure: number, { baseMs, capMs }: Backoff, random: () => number): number {
  const ceilingMs = Math.min(capMs, baseMs * 2 ** Math.min(failure, 50)); // bounded: 0 · 2^2000 would be NaN
  return Math.floor(random() * ceilingMs);
}
