import { request as startRequest } from 'undici';
import { systemClock } from '../runtime/clock.ts';
import { createDispatcher } from './dispatcher.ts';
import {
  AttemptAbortedError,
  type AttemptResult,
  classifyError,
  classifyForbidden,
  classifyStatus,
  DeadlineError,
} from './failure.ts';
import type { CallbackGuard } from './guard.ts';
import { type CapturedResponse, captureHeaders, readBody } from './response.ts';
import { parseRetryAfter } from './retry-after.ts';
import { createSocketWatch, type SocketTrace } from './socket-watch.ts';

/** One signed request, ready to go out. */
export interface AttemptRequest {
  readonly url: string;
  /** Lower-case names: `webhook-id`, `webhook-timestamp`, `webhook-signature`, `fanfare-event-id`, `fanfare-cursor`. */
  readonly headers: Readonly<Record<string, string>>;
  /** The bytes that were signed. */
  readonly body: string | Uint8Array;
  /** Gives the attempt up; its outcome is then of class `ABORTED`, and whether the receiver got it is unknown. */
  readonly signal?: AbortSignal | undefined;
}

/** What is known after an attempt. The response's part is filled as far as it came, whatever ended the exchange. */
export interface AttemptEvidence {
  readonly statusCode: number | undefined;
  readonly responseHeaders: CapturedResponse['responseHeaders'];
  readonly responseBody: string;
  readonly isTruncated: boolean;
  /** From the call to the end of the response, name resolution and connecting included; of a monotonic clock. */
  readonly durationMs: number;
  /** Who was sent to; undefined if nothing was sent, and behind a proxy. */
  readonly remoteAddress: string | undefined;
  /** What the receiver asked for beside a failure, not capped. */
  readonly retryAfterMs: number | undefined;
}

export type AttemptOutcome = AttemptEvidence & AttemptResult;

export interface SenderOptions {
  readonly guard: CallbackGuard;
  /** The program's version, for `user-agent: Fanfare/<version>`. */
  readonly version: string;
  /** For the whole exchange: names, connecting, sending, the response's last byte. @default 15_000 (ms) */
  readonly deadlineMs?: number;
  /** For TCP and TLS together. @default 5_000 (ms) */
  readonly connectTimeoutMs?: number;
  /**
   * An http or https forward proxy (`WEBHOOK_PROXY`), asked by CONNECT for every request. It resolves the names itself, so the
   * addresses checked here, before each request, need not be those it connects to: it must filter on its own.
   */
  readonly proxy?: string | undefined;
  /** Certificate authorities (PEM) to trust in place of Node's own. */
  readonly ca?: string | undefined;
  /** Measures a `Retry-After` given as a date. */
  readonly clock?: { now(): number };
}

/** Sends signed requests. Holds connections open between attempts: close it. */
export interface Sender {
  /**
   * Makes one attempt: one POST, no redirect followed, no cookie kept, nothing decompressed, no second try.
   *
   * Resolves within the deadline whatever the receiver does; what went wrong is data. Each new connection checks its addresses
   * anew; one that was idle for 4 s, or has carried 100 requests, is not used again.
   *
   * @throws only for an argument that is no valid request, such as a line break in a header
   */
  send(request: AttemptRequest): Promise<AttemptOutcome>;
  /** Waits for attempts under way, at most one deadline, and closes all connections. Closing twice is harmless. */
  close(): Promise<void>;
}

/** Makes a sender. Does no I/O until the first attempt; how many run at once is up to the caller. */
export function createSender(options: SenderOptions): Sender {
  const { guard, version, deadlineMs = 15_000, connectTimeoutMs = 5_000, proxy, ca, clock = systemClock } = options;
  const dispatcher = createDispatcher({ guard, connectTimeoutMs, proxy, ca });
  const watch = createSocketWatch({ maxResponseBytes: MAX_RESPONSE_BYTES });
  const underWay = new Set<Promise<unknown>>();

  function send(request: AttemptRequest): Promise<AttemptOutcome> {
    const attempt = makeAttempt(request);
    const settled: Promise<unknown> = attempt.then(
      () => underWay.delete(settled),
      () => underWay.delete(settled),
    );
    underWay.add(settled);
    return attempt;
  }

  async function makeAttempt(request: AttemptRequest): Promise<AttemptOutcome> {
    const startedAtMs = performance.now();
    const deadline = startDeadline(deadlineMs, request.signal);
    const exchange = createExchange();
    try {
      const result = await exchangeOnce(request, deadline.signal, exchange).catch(classifyError);
      return describe(result, exchange, performance.now() - startedAtMs);
    } finally {
      deadline.clear();
      exchange.trace?.release();
    }
  }

  async function exchangeOnce(
    request: AttemptRequest,
    signal: AbortSignal,
    exchange: Exchange,
  ): Promise<AttemptResult> {
    signal.throwIfAborted();
    const checked =
      proxy === undefined ? guard.checkText(request.url) : await unlessAborted(guard.check(request.url), signal);
    if (!checked.ok) return classifyForbidden({ transient: false, ...checked });
    const { result, trace } = watch.trace(() => startRequest(checked.url, toRequestOptions(request, signal)));
    exchange.trace = trace;
    // undici heeds a signal only once the request is written: waiting for a connection, it would outlast the deadline.
    const { statusCode, headers, body } = await unlessAborted(result, signal);
    Object.assign(exchange.response, { statusCode, responseHeaders: captureHeaders(headers) });
    await readBody(body, (kept) => Object.assign(exchange.response, kept));
    return classifyStatus(statusCode);
  }

  function toRequestOptions(request: AttemptRequest, signal: AbortSignal) {
    const headers = {
      ...request.headers,
      'content-type': 'application/json',
      'user-agent': `Fanfare/${version}`,
      'accept-encoding': 'identity',
    };
    return { dispatcher, method: 'POST' as const, headers, body: request.body, signal };
  }

  function describe(result: AttemptResult, exchange: Exchange, durationMs: number): AttemptOutcome {
    const { response, trace } = exchange;
    const hasFailed = result.kind !== 'succeeded';
    return {
      ...result,
      ...response,
      durationMs: Math.round(durationMs),
      remoteAddress: proxy === undefined ? trace?.remoteAddress : undefined,
      retryAfterMs: hasFailed ? parseRetryAfter(response.responseHeaders['retry-after'], clock.now()) : undefined,
    };
  }

  return {
    send,
    async close() {
      await Promise.all(underWay);
      // destroy, not close: nothing of ours is left to wait for, and a silent proxy may keep a tunnel pending.
      await dispatcher.destroy();
      watch.close();
    },
  };
}

/** What is learnt while an exchange goes on, so that it is not lost when the exchange ends in an error. */
interface Exchange {
  trace: SocketTrace | undefined;
  readonly response: Omit<CapturedResponse, 'statusCode'> & { readonly statusCode: number | undefined };
}

function createExchange(): Exchange {
  return {
    trace: undefined,
    response: { statusCode: undefined, responseHeaders: {}, responseBody: '', isTruncated: false },
  };
}

/** Both limits in one signal: undici's own time-outs are per phase, and a response that drips renews them (measured). */
function startDeadline(deadlineMs: number, given: AbortSignal | undefined) {
  const controller = new AbortController();
  const giveUp = () => controller.abort(new AttemptAbortedError());
  const timer = setTimeout(() => controller.abort(new DeadlineError(deadlineMs)), deadlineMs);
  if (given?.aborted) giveUp();
  given?.addEventListener('abort', giveUp, { once: true });
  const clear = () => {
    clearTimeout(timer);
    given?.removeEventListener('abort', giveUp);
  };
  return { signal: controller.signal, clear };
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** Of everything that arrives for one request, headers and framing included; body text is cut far below. */
const MAX_RESPONSE_BYTES = 65_536;
