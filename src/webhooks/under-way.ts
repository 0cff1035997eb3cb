import type { Exchange } from './exchange.ts';
import { AttemptAbortedError, DeadlineError } from './failure.ts';

/** The exchanges that are not settled yet. */
export interface UnderWay {
  /** Bounds it by the deadline and by its signal, until `remove`. */
  add(exchange: Exchange): void;
  remove(exchange: Exchange): void;
  /** Resolves when there are none. */
  ended(): Promise<void>;
  /** Stops the clock. */
  close(): void;
}

/**
 * Bounds exchanges with one timer for all and one listener for each signal: a timer and an abort controller per request took
 * 8 µs of some 85. All have the same deadline, so the oldest is always the next to reach it; it is given up at most 250 ms late.
 */
export function createUnderWay(deadlineMs: number): UnderWay {
  // in the order of their starts
  const exchanges = new Set<Exchange>();
  const heard = new WeakSet<AbortSignal>();
  const waiting: (() => void)[] = [];
  let timer: NodeJS.Timeout | undefined;

  function sweep(): void {
    const startedBeforeMs = performance.now() - deadlineMs;
    for (const exchange of exchanges) {
      if (exchange.startedAtMs > startedBeforeMs) break;
      exchange.giveUp(new DeadlineError(deadlineMs));
    }
    // goes on once more after the last, as the next often comes soon: setting a timer costs more than firing it
    timer = exchanges.size > 0 ? setTimeout(sweep, SWEEP_MS) : undefined;
  }

  function hear(signal: AbortSignal): void {
    if (heard.has(signal)) return;
    heard.add(signal);
    signal.addEventListener('abort', () => giveUp(signal), { once: true });
  }

  function giveUp(signal: AbortSignal): void {
    for (const exchange of exchanges) if (exchange.signal === signal) exchange.giveUp(new AttemptAbortedError());
  }

  return {
    add(exchange) {
      exchanges.add(exchange);
      timer ??= setTimeout(sweep, SWEEP_MS);
      if (exchange.signal !== undefined) hear(exchange.signal);
    },
    remove(exchange) {
      exchanges.delete(exchange);
      if (exchanges.size === 0) for (const resolve of waiting.splice(0)) resolve();
    },
    ended: () => new Promise((resolve) => (exchanges.size === 0 ? resolve() : waiting.push(resolve))),
    close: () => clearTimeout(timer),
  };
}

const SWEEP_MS = 250;
