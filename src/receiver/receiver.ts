import type { IncomingMessage, ServerResponse } from 'node:http';
import { memoryReplays, type ReplayStore } from './replays.ts';
import { type SignatureScheme, type VerifiedCallback, verifyCallback } from './schemes.ts';
import {
  type VerifiedWebhook,
  type VerifyOptions,
  verifyWebhook,
  type WebhookHeaders,
  type WebhookVerificationCode,
  WebhookVerificationError,
} from './verify.ts';

export {
  memoryReplays,
  type ReplayStore,
  type SignatureScheme,
  type VerifiedCallback,
  type VerifiedWebhook,
  type VerifyOptions,
  verifyCallback,
  verifyWebhook,
  type WebhookHeaders,
  type WebhookVerificationCode,
  WebhookVerificationError,
};

/** A callback whose `type` tells the type of its `data`; `Events` maps the one to the other. */
export type CallbackOf<Events> = {
  [Type in keyof Events & string]: Omit<VerifiedCallback, 'type' | 'data'> & {
    readonly type: Type;
    readonly data: Events[Type];
  };
}[keyof Events & string];

export interface ReceiverOptions {
  /** `whsec_…`, or what the scheme has; several while one is rotated out. */
  readonly secret: string | readonly string[];
  /** @default 'standard' */
  readonly scheme?: SignatureScheme;
  /** Share one between processes, so that each callback is handled once. @default one of this process, `memoryReplays()` */
  readonly replays?: ReplayStore;
  /** How far the sender's clock may be from ours, either way. @default 300 (s) */
  readonly toleranceSeconds?: number;
  /** Larger bodies are refused before they are read whole. @default 1_048_576 */
  readonly maxBytes?: number;
  /** How long a handler may take until another may try. @default 60_000 (ms) */
  readonly holdMs?: number;
  /** How long a handled callback is remembered: longer than its sender retries. @default 345_600_000 (ms): four days */
  readonly keepMs?: number;
  /** Told what a handler has rejected with, and other faults of this side. @default a warning of the process */
  readonly onError?: (error: unknown) => void;
  /** Unix milliseconds. @default Date.now */
  readonly now?: () => number;
}

export type Handler<Events> = (callback: CallbackOf<Events>) => unknown;

/** Receives the callbacks of one sender. */
export interface Receiver<Events> {
  /**
   * Reads and checks one; whether it came before is not asked.
   * @throws {WebhookVerificationError}
   */
  verify(request: Request | IncomingMessage): Promise<CallbackOf<Events>>;
  /**
   * Handles one, once: 204 when the handler has resolved, or had before; 400 for what is not genuine, 413 for what is too large; 409 while
   * another handles it, and 500 where the handler rejects: the sender comes back.
   */
  respond(request: Request, handler: Handler<Events>): Promise<Response>;
  /** The same for `http.createServer`, Express and their like; before anything that reads bodies. */
  listener(handler: Handler<Events>): (request: IncomingMessage, response: ServerResponse) => void;
}

/**
 * Makes a receiver.
 * @typeParam Events what `data` is by `type`, such as `{ 'order.placed': OrderPlaced }`: types generated from the webhook's document
 */
export function createReceiver<Events = Record<string, unknown>>(options: ReceiverOptions): Receiver<Events> {
  const { scheme = 'standard', replays = memoryReplays(), maxBytes = 1_048_576 } = options;
  const { holdMs = 60_000, keepMs = 345_600_000, secret, toleranceSeconds = 300, now = Date.now } = options;
  const { onError = warn } = options;

  async function verify(request: Request | IncomingMessage): Promise<CallbackOf<Events>> {
    const body = await readBody(request, maxBytes);
    const { headers } = request;
    // `data` is what the sender's signature says it is, which is what the caller's types say of its documents
    return verifyCallback(scheme, { secret, headers, body, toleranceSeconds, now }) as CallbackOf<Events>;
  }

  /** Never rejects. */
  async function answer(request: Request | IncomingMessage, handler: Handler<Events>): Promise<Answer> {
    try {
      return { status: await handle(request, handler), text: '' };
    } catch (error) {
      const fault = faultOf(error);
      if (fault === undefined) onError(error);
      return fault ?? { status: 500, text: '' };
    }
  }

  async function handle(request: Request | IncomingMessage, handler: Handler<Events>): Promise<number> {
    const callback = await verify(request);
    const key = `${scheme}:${callback.id}`;
    const begun = await replays.begin(key, holdMs);
    if (begun !== 'new') return begun === 'done' ? 204 : 409;
    try {
      await handler(callback);
    } catch (error) {
      await replays.abandon(key);
      throw error;
    }
    await replays.finish(key, keepMs);
    return 204;
  }

  return {
    verify,
    async respond(request, handler) {
      const { status, text } = await answer(request, handler);
      return new Response(text === '' ? null : text, { status });
    },
    listener: (handler) => async (request, response) => {
      const { status, text } = await answer(request, handler);
      // what was not read would have to be, before the next request
      if (!request.readableEnded) response.setHeader('connection', 'close');
      response.writeHead(status, text === '' ? {} : { 'content-type': 'text/plain' }).end(text);
    },
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** What the sender is told of its fault; undefined for what is ours. */
function faultOf(error: unknown): Answer | undefined {
  if (!(error instanceof WebhookVerificationError)) return undefined;
  if (error.code === 'SECRET_INVALID' || error.code === 'BODY_MISSING') return undefined;
  return { status: error.code === 'BODY_TOO_LARGE' ? 413 : 400, text: `${error.code}: ${error.message}\n` };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}

async function readBody(request: Request | IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  // left open when too much has come, so that it can be answered
  const stream = request instanceof Request ? (request.body ?? []) : request.iterator({ destroyOnReturn: false });
  const wasRead = request instanceof Request ? request.bodyUsed : request.readableEnded || request.readableDidRead;
  if (wasRead)
    throw new WebhookVerificationError(
      'BODY_MISSING',
      'the body was read before; receive callbacks ahead of what parses bodies',
    );
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes) throw new WebhookVerificationError('BODY_TOO_LARGE', `expected at most ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
