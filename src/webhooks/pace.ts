import { EngineError } from '../errors.ts';
import type { OrderColumns } from './order.ts';
import { DEFAULT_SCHEDULE, type Schedule } from './schedule.ts';
import type { Webhook } from './webhook.ts';

/** As a webhook's row keeps it, in seconds: null for what is the engine's own. */
export interface RetryColumns {
  readonly retry_delays: number[] | null;
  readonly retry_window: number | null;
}

/** What a webhook's maker decides about how fast and in which order it is sent to; what is absent stays. */
export type PaceColumns = OrderColumns &
  Partial<RetryColumns & { readonly max_in_flight: number | null; readonly rate_limit: number | null }>;

/** As GraphQL has coerced it. */
export interface PaceInput {
  readonly retry?: RetryInput | null | undefined;
  readonly maxInFlight?: number | null | undefined;
  readonly ratePerSecond?: number | null | undefined;
}

/** `WebhookRetryInput`, as GraphQL has coerced it. */
export interface RetryInput {
  readonly delays?: readonly number[] | null | undefined;
  readonly window?: number | null | undefined;
}

/** The longest wait between two attempts, in seconds: a week. */
export const MAX_DELAY_S = 604_800;
/** The longest window, in seconds: two weeks. */
export const MAX_WINDOW_S = 1_209_600;
/** Attempts of one delivery on one schedule. */
export const MAX_ATTEMPTS = 100;
/** Requests under way to one webhook at most, where it asks for more than the worker's own number. */
export const MAX_IN_FLIGHT = 100;
/** Requests a second. */
export const RATES = { least: 0.01, most: 1_000 };

/**
 * Checks what a webhook's maker decides about how fast it is sent to.
 * @throws EngineError BAD_INPUT for a number out of bounds
 */
export function checkPace({ retry, maxInFlight, ratePerSecond }: PaceInput): PaceColumns {
  return {
    ...(retry ? checkRetries(retry) : {}),
    ...(typeof maxInFlight === 'number' ? { max_in_flight: checkInFlight(maxInFlight) } : {}),
    ...(typeof ratePerSecond === 'number' ? { rate_limit: checkRate(ratePerSecond) } : {}),
  };
}

/** 0 is the worker's own number. */
function checkInFlight(value: number): number | null {
  if (value === 0) return null;
  if (value >= 1 && value <= MAX_IN_FLIGHT) return value;
  throw new EngineError('BAD_INPUT', `"maxInFlight": expected 0 to ${MAX_IN_FLIGHT}, found ${value}`);
}

/** 0 is none. */
function checkRate(value: number): number | null {
  if (value === 0) return null;
  if (value >= RATES.least && value <= RATES.most) return value;
  throw new EngineError('BAD_INPUT', `"ratePerSecond": expected 0, or ${RATES.least} to ${RATES.most}, found ${value}`);
}

/**
 * Checks a schedule that a webhook is to have in place of the engine's.
 * @throws EngineError BAD_INPUT for a wait or window out of bounds, and for more than 100 attempts
 */
export function checkRetries({ delays, window }: RetryInput): RetryColumns {
  const wrong = delays?.find((delay) => delay < 1 || delay > MAX_DELAY_S);
  if (wrong !== undefined)
    throw new EngineError('BAD_INPUT', `retry.delays: expected 1 to ${MAX_DELAY_S} seconds each, found ${wrong}`);
  if (typeof window === 'number' && (window < 1 || window > MAX_WINDOW_S))
    throw new EngineError('BAD_INPUT', `retry.window: expected 1 to ${MAX_WINDOW_S} seconds, found ${window}`);
  if (typeof window === 'number' && delays?.length === 0)
    throw new EngineError('BAD_INPUT', 'retry.window needs a delay to repeat; leave it out for one attempt only');
  const columns = { retry_delays: delays ? [...delays] : null, retry_window: window ?? null };
  const attempts = countAttempts(scheduleOf(columns));
  if (attempts > MAX_ATTEMPTS)
    throw new EngineError(
      'BAD_INPUT',
      `retry: expected at most ${MAX_ATTEMPTS} attempts, found ${attempts}; lengthen the last delay`,
    );
  return columns;
}

/** When a webhook's deliveries are tried again. */
export function scheduleOf({ retry_delays, retry_window }: Pick<Webhook, keyof RetryColumns>): Schedule {
  return {
    delaysMs: retry_delays?.map((seconds) => seconds * 1_000) ?? DEFAULT_SCHEDULE.delaysMs,
    windowMs: retry_window === null ? undefined : retry_window * 1_000,
  };
}

/** Without jitter. */
function countAttempts({ delaysMs, windowMs }: Schedule): number {
  const last = delaysMs.at(-1);
  if (windowMs === undefined || last === undefined) return delaysMs.length + 1;
  const listedMs = delaysMs.reduce((sum, delay) => sum + delay, 0);
  return 1 + delaysMs.length + Math.max(0, Math.floor((windowMs - listedMs) / last));
}
