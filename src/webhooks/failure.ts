import type { CallbackRefusalReason } from './callback-url.ts';
import { ResponseOverflowError } from './carrier.ts';
import { ConnectionError } from './connection.ts';
import { CallbackForbiddenError } from './guard.ts';

/**
 * At which stage an attempt failed.
 *
 * - `DNS` the name servers kept silent, or know no such host; `CONNECT` no TCP connection; `TLS` handshake or certificate, theirs
 *   or one that they want of us, or what comes behind the handshake is no TLS
 * - `PROXY` the operator's proxy, not the receiver
 * - `TIMEOUT` the deadline of the whole exchange; `ABORTED` the caller's signal: says nothing about the receiver
 * - `RESET` the connection ended before the response did, or was switched to another protocol
 * - `PROTOCOL` what came is not HTTP/1.1; `HEADERS_OVERFLOW` it is, without end
 * - `REDIRECT` a 3xx, never followed; `HTTP_STATUS` any other answer but 2xx
 */
export type FailureClass =
  | 'DNS'
  | 'CONNECT'
  | 'TLS'
  | 'PROXY'
  | 'TIMEOUT'
  | 'ABORTED'
  | 'RESET'
  | 'PROTOCOL'
  | 'HEADERS_OVERFLOW'
  | 'REDIRECT'
  | 'HTTP_STATUS';

/** How an attempt ended. `refused`: our own guard forbade it, and no byte was sent. */
export type AttemptResult =
  | { readonly kind: 'succeeded' }
  | {
      readonly kind: 'failed';
      readonly errorClass: FailureClass;
      /** With `DNS`, for the log. */
      readonly reason?: CallbackRefusalReason;
    }
  | { readonly kind: 'refused'; readonly errorClass: 'ADDRESS_REFUSED'; readonly reason: CallbackRefusalReason };

/** The exchange took longer than its deadline; the abort reason of an attempt. */
export class DeadlineError extends Error {
  constructor(deadlineMs: number) {
    super(`no whole response within ${deadlineMs} ms`);
    this.name = 'DeadlineError';
  }
}

/** The caller gave the attempt up; the abort reason of an attempt. */
export class AttemptAbortedError extends Error {
  constructor() {
    super('the attempt was given up');
    this.name = 'AttemptAbortedError';
  }
}

/** Classes a whole response by its status. */
export function classifyStatus(statusCode: number): AttemptResult {
  if (statusCode >= 200 && statusCode < 300) return { kind: 'succeeded' };
  return { kind: 'failed', errorClass: statusCode >= 300 && statusCode < 400 ? 'REDIRECT' : 'HTTP_STATUS' };
}

/**
 * Classes the error that ended an exchange.
 *
 * @returns undefined if undici calls our arguments invalid, or is closed: a bug here, not a fault of the receiver
 */
export function classifyError(error: unknown): AttemptResult | undefined {
  if (error instanceof CallbackForbiddenError) return classifyForbidden(error);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_DESTROYED') return undefined;
  return { kind: 'failed', errorClass: classifyOwn(error) ?? classifyCode(code, error) };
}

/** A name that is gone or silent is the receiver's outage, and heals; an inward one is refused. */
export function classifyForbidden(forbidden: {
  readonly reason: CallbackRefusalReason;
  readonly transient: boolean;
}): AttemptResult {
  if (forbidden.transient || forbidden.reason === 'DNS_EMPTY')
    return { kind: 'failed', errorClass: 'DNS', reason: forbidden.reason };
  return { kind: 'refused', errorClass: 'ADDRESS_REFUSED', reason: forbidden.reason };
}

function classifyOwn(error: unknown): FailureClass | undefined {
  if (error instanceof ConnectionError) return error.stage;
  if (error instanceof DeadlineError) return 'TIMEOUT';
  if (error instanceof AttemptAbortedError) return 'ABORTED';
  if (error instanceof ResponseOverflowError) return 'HEADERS_OVERFLOW';
  return undefined;
}

function classifyCode(code: string, error: unknown): FailureClass {
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'HEADERS_OVERFLOW';
  // Direct connections fail with ConnectionError, so an error of connecting that is bare is of the way to the proxy.
  if (/^UND_ERR_(PRX|ABORTED|CONNECT_TIMEOUT|HEADERS_TIMEOUT)/.test(code) || isConnectCall(error)) return 'PROXY';
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE' || code === 'ETIMEDOUT') return 'RESET';
  return /^(ERR_TLS|ERR_SSL|EPROTO)|CERT|UNABLE_TO_/.test(code) ? 'TLS' : 'PROTOCOL';
}

function isConnectCall(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isConnectCall);
  return error instanceof Error && 'syscall' in error && ['connect', 'getaddrinfo'].includes(String(error.syscall));
}
