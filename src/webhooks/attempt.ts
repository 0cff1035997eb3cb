import { systemClock } from '../runtime/clock.ts';
import { createDispatcher } from './dispatcher.ts';
import { type AttemptEvidence, describeExchange } from './evidence.ts';
import { Exchange } from './exchange.ts';
import { AttemptAbortedError, type AttemptResult } from './failure.ts';
import type { CallbackGuard } from './guard.ts';
import { createTargetReader, type Target } from './target.ts';
import { createUnderWay } from './under-way.ts';

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

export type AttemptOutcome = AttemptEvidence & AttemptResult;

export interface SenderOptions {
  readonly guard: CallbackGuard;
  /** The program's version, for `user-agent: Fanfare/<version>`. */
  readonly version: string;
  /** For the whole exchange: names, connecting, sending, the response's last byte. It may last 0.25 s longer. @default 15_000 (ms) */
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
  const readTarget = createTargetReader(guard);
  const underWay = createUnderWay(deadlineMs);
  const hasProxy = proxy !== undefined;
  const ownHeaders = {
    'content-type': 'application/json',
    'user-agent': `Fanfare/${version}`,
    'accept-encoding': 'identity',
  };

  function send({ url, headers: given, body, signal }: AttemptRequest): Promise<AttemptOutcome> {
    const headers = { ...given, ...ownHeaders };
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(signal, (ended, { result, error }) => {
        underWay.remove(ended);
        if (result === undefined) reject(error);
        else resolve(describeExchange(ended, { result, error, headers, body, hasProxy, clock }));
      });
      underWay.add(exchange);
      start(exchange, { url, headers, body, signal });
    });
  }

  function start(exchange: Exchange, request: AttemptRequest): void {
    const target = readTarget(request.url);
    if (request.signal?.aborted) exchange.giveUp(new AttemptAbortedError());
    else if (!target.ok) exchange.refuse(target);
    else if (!hasProxy) dispatch(exchange, request, target);
    else {
      // the proxy connects by itself: no connector of ours checks
      guard.check(request.url).then(
        (checked) => (checked.ok ? dispatch(exchange, request, target) : exchange.refuse(checked)),
        (error) => exchange.onResponseError(undefined, error),
      );
    }
  }

  function dispatch(exchange: Exchange, { headers, body }: AttemptRequest, { origin, path }: Target): void {
    if (!exchange.isSettled) dispatcher.dispatch({ origin, path, method: 'POST', headers, body }, exchange);
  }

  return {
    send,
    async close() {
      await underWay.ended();
      underWay.close();
      // destroy, not close: nothing of ours is left to wait for, and a silent proxy may keep a tunnel pending.
      await dispatcher.destroy();
    },
  };
}
