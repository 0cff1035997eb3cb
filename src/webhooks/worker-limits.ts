/** How much a worker takes on, and how long things may take. */
export interface WorkerLimits {
  /** Attempts under way in this process; the last quarter is for webhooks with nothing under way. @default 500 */
  readonly maxInFlight: number;
  /** Deliveries claimed beyond the webhooks' caps, because they will soon be got to. @default 4_000 */
  readonly maxAhead: number;
  /** Attempts under way to one webhook, in all processes. @default 8 */
  readonly webhookCap: number;
  /** The same for one account, in this process. @default 200 */
  readonly accountCap: number;
  /** Requests begun per second to one origin, for all webhooks of all accounts, in this process. @default 1_000 */
  readonly originRate: number;
  /** What a killed process held goes out again after it. Renewed while the process lives. @default 4_000 (ms) */
  readonly leaseMs: number;
  /** The longest that a delivery is held, rendering and attempt together. Above the sender's deadline. @default 30_000 (ms) */
  readonly holdMs: number;
  /** The longest that an attempt may take: one is not begun with less than this left of `holdMs`. @default 16_000 (ms) */
  readonly attemptMs: number;
  /** The longest rest without a hint. @default 250 (ms) */
  readonly pollMs: number;
  /** At the stop, attempts under way get this long to end by themselves. @default 8_000 (ms) */
  readonly drainMs: number;
}

/** Those that are given, and the defaults of the others. */
export function workerLimits({
  maxInFlight = 500,
  maxAhead = 4_000,
  webhookCap = 8,
  accountCap = 200,
  originRate = 1_000,
  leaseMs = 4_000,
  holdMs = 30_000,
  attemptMs = 16_000,
  pollMs = 250,
  drainMs = 8_000,
}: Partial<WorkerLimits>): WorkerLimits {
  return { maxInFlight, maxAhead, webhookCap, accountCap, originRate, leaseMs, holdMs, attemptMs, pollMs, drainMs };
}
