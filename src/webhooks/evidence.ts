import { hash } from 'node:crypto';
import { ConnectionError } from './connection.ts';
import { type ConnectionTimings, NO_STEPS } from './connection-timings.ts';
import type { Exchange } from './exchange.ts';
import type { AttemptResult } from './failure.ts';
import { CallbackForbiddenError } from './guard.ts';
import type { CapturedResponse } from './response.ts';
import { parseRetryAfter } from './retry-after.ts';

/** What is known after an attempt. The response's part is filled as far as it came, whatever ended the exchange. */
export interface AttemptEvidence {
  readonly statusCode: number | undefined;
  readonly responseHeaders: CapturedResponse['responseHeaders'];
  readonly responseBody: string;
  readonly isTruncated: boolean;
  /** From the call to the end of the response, name resolution and connecting included; of a monotonic clock. */
  readonly durationMs: number;
  /** The steps to the connection; null where they were not taken, such as on one that is used again. */
  readonly timings: ConnectionTimings;
  /** From the request's being written to the first byte of an answer; undefined without. */
  readonly firstByteMs: number | undefined;
  /** What was written; undefined if nothing was. */
  readonly sent: SentEvidence | undefined;
  /** Who was sent to; undefined if nothing was sent, and behind a proxy. */
  readonly remoteAddress: string | undefined;
  /** What the receiver asked for beside a failure, not capped. */
  readonly retryAfterMs: number | undefined;
}

export interface SentEvidence {
  /** A line `name: value` for each header, secrets masked. */
  readonly headers: string;
  /** SHA-256 of the body, in hexadecimal. */
  readonly bodyHash: string;
  /** Whether the connection had carried a request before. */
  readonly isReused: boolean;
}

/** What is needed beside the exchange to tell of it. */
interface Circumstances {
  readonly result: AttemptResult;
  readonly error: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
  readonly hasProxy: boolean;
  readonly clock: { now(): number };
}

/** Tells of an exchange that has just ended. */
export function describeExchange(exchange: Exchange, circumstances: Circumstances): AttemptEvidence & AttemptResult {
  const { result, error, headers, body, hasProxy, clock } = circumstances;
  const { connection, isReused, statusCode, responseHeaders } = exchange;
  const { responseBody, isTruncated } = exchange.body.read();
  const hasFailed = result.kind !== 'succeeded';
  return {
    ...result,
    statusCode,
    responseHeaders,
    responseBody,
    isTruncated,
    durationMs: Math.round(performance.now() - exchange.startedAtMs),
    timings: (isReused ? undefined : connection?.timings) ?? timingsOf(error),
    firstByteMs: exchange.firstByteAtMs && Math.round(exchange.firstByteAtMs - exchange.sentAtMs),
    sent: connection && { headers: maskHeaders(headers), bodyHash: hash('sha256', body, 'hex'), isReused },
    remoteAddress: hasProxy ? undefined : connection?.remoteAddress,
    retryAfterMs: hasFailed ? parseRetryAfter(responseHeaders['retry-after'], clock.now()) : undefined,
  };
}

/** Where no connection came about, its error tells how far it came. */
function timingsOf(error: unknown): ConnectionTimings {
  return error instanceof ConnectionError || error instanceof CallbackForbiddenError ? error.timings : NO_STEPS;
}

/**
 * Headers as they are kept: a signature shows its scheme alone, and values that the engine did not make are hidden, as they may be
 * credentials.
 */
export function maskHeaders(headers: Readonly<Record<string, string>>): string {
  let lines = '';
  for (const name in headers) {
    const value = headers[name] ?? '';
    if (lines !== '') lines += '\n';
    lines += `${name}: ${OWN_HEADERS.has(name) ? value : name === SIGNATURE ? maskSignatures(value) : MASK}`;
  }
  return lines;
}

function maskSignatures(value: string): string {
  return value.replace(/,[^ ]*/g, `,${MASK}`);
}

const MASK = '***';
const SIGNATURE = 'webhook-signature';
/** What the engine writes into these is no secret. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  ...['webhook-id', 'webhook-timestamp', 'fanfare-event-id', 'fanfare-cursor', 'fanfare-replay'],
  ...['content-type', 'user-agent', 'accept-encoding'],
]);
