/**
 * It can't go on. `code` is one of the server's or of the client's own: `CONNECTION_REFUSED` for a close or an HTTP status that
 * no retry will mend, `CONNECTION_LOST` and `TIMEOUT` for an operation whose answer did not come, `POSITION_GAP` for events
 * that the log has lost.
 */
export class WatchError extends Error {
  readonly code: string;
  /** Further facts; with `CURSOR_EXPIRED`, `earliestCursor` is the oldest that still works. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, details: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.name = 'WatchError';
    this.code = code;
    this.details = details;
  }
}

/** Why a connection or an operation ended: a list of GraphQL errors, a close event, an Error, or what a WebSocket says of one. */
export type Fault = unknown;

/** Codes of conditions that pass. All others are final. */
export const PASSING: readonly string[] = ['UNAVAILABLE', 'CURSOR_PENDING', 'TIMEOUT', 'RATE_LIMITED', 'INTERNAL'];
/** Refused keys in a row before the watch gives up: a new key may be known a moment later elsewhere. */
const MAX_REFUSED_KEYS = 3;
/** The server completed a stream that has no end of its own: it is about to stop. */
export const ENDED = new Error('the server ended the stream');
/** The caller's signal. */
export const STOPPED = new Error('stopped');
/** Closes that another try would meet again: of the protocol, and for messages that are too large or not text. */
const FINAL_CLOSES = [1002, 1003, 1007, 1009, 1010, 4004, 4400, 4401, 4406, 4409, 4429];
const FORBIDDEN_CLOSE = 4403;

/** How many keys in a row the server refused. */
export interface KeyCount {
  refusedKeys: number;
}

/** Why to try again, in words. @throws WatchError where that is of no use */
export function explain(fault: Fault, keys: KeyCount): string {
  if (fault instanceof WatchError) throw fault;
  if (Array.isArray(fault)) return explainErrors(fault, keys);
  if (!isClose(fault)) return fault instanceof Error ? fault.message : 'the server can not be reached';
  if (fault.code === FORBIDDEN_CLOSE) return countRefusedKey(keys, 'the key is missing, wrong, expired or revoked');
  const reason = `the connection was closed with ${fault.code}${fault.reason === '' ? '' : ` ${fault.reason}`}`;
  if (FINAL_CLOSES.includes(fault.code)) throw new WatchError('CONNECTION_REFUSED', reason, { closeCode: fault.code });
  return reason;
}

function explainErrors(errors: readonly unknown[], keys: KeyCount): string {
  // what a GraphQL error is on the wire
  const { message, extensions = {} } = errors[0] as { message: string; extensions?: Record<string, unknown> };
  const { code: given, ...details } = extensions;
  const code = typeof given === 'string' ? given : 'INTERNAL';
  if (code === 'UNAUTHENTICATED') return countRefusedKey(keys, message);
  if (PASSING.includes(code)) return `${code}: ${message}`;
  throw new WatchError(code, message, details);
}

function countRefusedKey(keys: KeyCount, reason: string): string {
  keys.refusedKeys += 1;
  if (keys.refusedKeys >= MAX_REFUSED_KEYS) throw new WatchError('UNAUTHENTICATED', reason);
  return reason;
}

function isClose(fault: Fault): fault is { readonly code: number; readonly reason: string } {
  return typeof fault === 'object' && fault !== null && 'code' in fault && 'reason' in fault;
}

/** The errors of GraphQL that say the same, as sinks of graphql-ws, Apollo and urql know them. Another Error stays what it is. */
export function toSinkError(error: unknown): unknown {
  if (!(error instanceof WatchError)) return error;
  const { code, message, details } = error;
  return [{ message, extensions: { ...details, code } }];
}
