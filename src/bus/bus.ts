import { EngineError } from '../errors.ts';

/**
 * The bus carries hints between processes, and copies of what the log already holds. It is at-most-once: Postgres is the
 * truth, a message is never the only place where something is written, and a reader who was told `interrupted` reads
 * the log. Two implementations pass one conformance suite: `connectRedisBus`, and `createMemoryBus` for one process.
 */
export interface Bus {
  /**
   * Hands a message to the transport. Resolves when the transport has taken it, which says nothing of who heard it.
   *
   * Rejects with `EngineError('UNAVAILABLE')` when the transport could not take it: at once while disconnected or while
   * `MAX_PENDING_BYTES` are in hand, else after the time-out (1 s by default). It is never kept for later: a late message is
   * worthless. One that timed out may still arrive. Rejects with a `RangeError` if it is larger than `MAX_MESSAGE_BYTES`:
   * the caller's bug.
   */
  publish(channel: string, message: string): Promise<void>;

  /**
   * Registers a listener, for good: until `close`, the bus restores the subscription after every interruption by itself.
   *
   * Resolves when the transport has confirmed the subscription: of everything published from then on, the listener gets
   * every message in publish order, or is told `interrupted`. If it can't be confirmed now (disconnected, or no answer
   * within two time-outs), it resolves too, after a call of `interrupted`; `resumed` follows when it is. So a caller that
   * handles an interruption, as all must, needs no other code for a bus that is down.
   *
   * Rejects only after the bus was closed, with `EngineError('UNAVAILABLE')`.
   * Channels are few and fixed (`shard.0` …, `wake`, `control`): the bus remembers each name it has seen.
   */
  subscribe(channel: string, listener: BusListener): Promise<BusSubscription>;

  /** Ends every subscription without a word to its listeners and rejects what is pending; closing twice is harmless. */
  close(): Promise<void>;
}

/**
 * Calls are synchronous, one at a time, in order. A listener returns at once: the bus holds no queue between the transport
 * and it, so one that blocks stalls the process's whole bus until the server cuts the link (Redis: 32 MB behind, or
 * 8 MB for 60 s), which shows as `interrupted`, then `resumed`. One that throws is reported, and hurts no other.
 */
export interface BusListener {
  message(text: string): void;
  /** Messages may be missing from now on. No `message` comes before `resumed`. */
  interrupted(): void;
  /** Confirmed again: whatever was published in between is lost, so catch up from the log. */
  resumed(): void;
}

export interface BusSubscription {
  /** The listener is not called any more from this call on. Resolves when the transport knows; never rejects. */
  close(): Promise<void>;
}

/** The largest message, in bytes of UTF-8. */
export const MAX_MESSAGE_BYTES = 256 * 1024;

/** The most that one process may have published without an answer, in bytes; past it `publish` rejects at once. */
export const MAX_PENDING_BYTES = 16 * 1024 * 1024;

/** The size of a message in bytes. @throws RangeError above `MAX_MESSAGE_BYTES` */
export function messageBytes(channel: string, message: string): number {
  const bytes = Buffer.byteLength(message);
  if (bytes <= MAX_MESSAGE_BYTES) return bytes;
  throw new RangeError(
    `a message on "${channel}" is ${bytes} bytes, the bus takes ${MAX_MESSAGE_BYTES}: publish only the range, not the events`,
  );
}

/** What every call gets after `close`. */
export function busClosed(): EngineError {
  return new EngineError('UNAVAILABLE', 'the bus is closed');
}

/** What `publish` gets when the transport lags by `MAX_PENDING_BYTES`. */
export function busFull(): EngineError {
  return new EngineError('UNAVAILABLE', `the bus has ${MAX_PENDING_BYTES} bytes in hand already`);
}
