import type { Dispatcher } from 'undici';
import type { CallbackRefusalReason } from './callback-url.ts';
import { type CarriedHandler, type Carrier, type Connection, ResponseOverflowError } from './carrier.ts';
import { type AttemptResult, classifyError, classifyForbidden, classifyStatus } from './failure.ts';
import { countHeaders, MAX_HEADER_LINES } from './header-count.ts';
import { type CapturedResponse, captureHeaders, createBodyKeeper } from './response.ts';

/** How an exchange ended; without a result by a bug of ours, such as a header that can't be sent. */
export interface ExchangeEnd {
  readonly result: AttemptResult | undefined;
  /** Undefined after a whole response. */
  readonly error: unknown;
}

/**
 * One request on its way through undici, and what is learnt of it so far, which is kept when it ends in an error too. Without a
 * stream or a promise between: undici's `request` costs a third more.
 *
 * It waits for a connection, then for the answer, and is settled once: by the end of the answer, by a fault, by
 * `giveUp`, or by more body than is kept. What undici reports after that is not heard.
 */
export class Exchange implements CarriedHandler {
  carrier: Carrier | undefined;
  readonly startedAtMs = performance.now();
  readonly signal: AbortSignal | undefined;
  /** That it was written on; undefined as long as nothing was sent. */
  connection: Connection | undefined;
  isReused = false;
  sentAtMs = 0;
  firstByteAtMs: number | undefined;
  statusCode: number | undefined;
  responseHeaders: CapturedResponse['responseHeaders'] = {};
  readonly body = createBodyKeeper();
  readonly #settled: (exchange: Exchange, end: ExchangeEnd) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #isSettled = false;

  constructor(signal: AbortSignal | undefined, settled: (exchange: Exchange, end: ExchangeEnd) => void) {
    this.signal = signal;
    this.#settled = settled;
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Ends it, wherever it is: what waits for a connection is not sent any more, and a connection in use is closed. */
  giveUp(reason: Error): void {
    this.#fail(reason);
    this.#controller?.abort(reason);
  }

  /** Ends it before it was sent: our own guard forbids it, or the name servers kept silent. */
  refuse(forbidden: { readonly reason: CallbackRefusalReason; readonly transient?: boolean }): void {
    this.#settle({ result: classifyForbidden({ transient: false, ...forbidden }), error: undefined });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // undici keeps no way to take back what waits for a connection
    if (this.#isSettled) {
      controller.abort(new Error('the exchange was given up before its turn'));
      return;
    }
    this.#controller = controller;
    const connection = this.carrier?.connection;
    this.isReused = (connection?.requestCount ?? 0) > 0;
    this.connection = connection;
    this.sentAtMs = performance.now();
    connection?.begin();
  }

  onResponseStarted(): void {
    this.firstByteAtMs ??= performance.now();
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    statusCode: number,
    headers: Parameters<typeof captureHeaders>[0],
  ): void {
    if (this.#isSettled) return;
    if (countHeaders(controller) > MAX_HEADER_LINES) {
      this.giveUp(new ResponseOverflowError(`${MAX_HEADER_LINES} header lines`));
    } else if (statusCode >= 200) {
      this.statusCode = statusCode;
      this.responseHeaders = captureHeaders(headers);
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#isSettled || !this.body.add(chunk)) return;
    // the rest is never read, which ends the connection
    this.#succeed();
    controller.abort(new Error('more body than is kept'));
  }

  onResponseEnd(): void {
    this.#succeed();
  }

  onResponseError(_controller: unknown, error: Error): void {
    this.#fail(error);
  }

  #succeed(): void {
    // undici gives no end without a head
    this.#settle({ result: classifyStatus(this.statusCode ?? 0), error: undefined });
  }

  #fail(error: unknown): void {
    this.#settle({ result: classifyError(error), error });
  }

  #settle(end: ExchangeEnd): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#settled(this, end);
  }
}
