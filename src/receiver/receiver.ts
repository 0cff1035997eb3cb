import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Begun, memoryReplays, type ReplayStore } from './replays.ts';
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
  type Begun,
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
export type CallbackOf<Events, Type extends keyof Events = keyof Events> = {
  [Each in Type & string]: Omit<VerifiedCallback, 'type' | 'data'> & {
    readonly type: Each;
    readonly data: Events[Each];
  };
}[Type & string];

/** What to do, by type; `*` for all others. What has no handler is answered 204: a ping, and types that are added later. */
export type Handlers<Events> = {
  readonly [Type in keyof Events & string]?: (callback: CallbackOf<Events, Type>) => unknown;
} & { readonly '*'?: (callback: VerifiedCallback) => unknown };

export interface ReceiverOptions {
  /** `whsec_…`, or what the scheme has; several while one is rotated out. */
  readonly secret: string | readonly string[];
  /** @default 'standard' */
  readonly scheme?: SignatureScheme;
  /**
   * Remembers what was handled, under `name`, which no other receiver on the store may have: one for all processes of this one.
   * @default one of this process, `memoryReplays()`
   */
  readonly replays?: { readonly name: string; readonly store: ReplayStore };
  /** How far the sender's clock may be from ours, either way. @default 300 (s) */
  readonly toleranceSeconds?: number;
  /** Larger bodies are refused before they are read whole. @default 1_048_576 */
  readonly maxBytes?: number;
  /** How long a handler may take until another may try. @default 60_000 (ms) */
  readonly holdMs?: number;
  /**
   * How long a handled callback is remembered: longer than its sender retries, and than anybody may replay one whose scheme signs
   * no time (`github`, `shopify`). @default 1_814_400_000 (ms): three weeks
   */
  readonly keepMs?: number;
  /** Told what a handler has rejected with, and other faults of this side. Must not throw. @default a warning of the process */
  readonly onError?: (error: unknown) => void;
  /** Unix milliseconds. @default Date.now */
  readonly now?: () => number;
}

/** Receives the callbacks of one sender. */
export interface Receiver<Events> {
  /**
   * Reads and checks one; whether it came before is not asked.
   * @throws {WebhookVerificationError}
   */
  verify(request: Request | IncomingMessage): Promise<VerifiedCallback>;
  /**
   * Handles one, once: 204 when its handler has resolved, or had before, or there is none; 400 for what is not genuine, 413 for what is too
   * large; 409 while another handles it, and 500 where the handler rejects: the sender comes back. Never rejects.
   */
  respond(request: Request, handlers: Handlers<Events>): Promise<Response>;
  /** The same for `http.createServer`, Express and their like; before anything that reads bodies. */
  listener(handlers: Handlers<Events>): (request: IncomingMessage, response: ServerResponse) => void;
}

/**
 * Makes a receiver.
 * @typeParam Events what `data` is by `type`, such as `{ 'order.placed': OrderPlaced }`: types generated from the webhook's document
 */
export function createReceiver<Events = Record<never, never>>(options: ReceiverOptions): Receiver<Events> {
  const { scheme = 'standard', replays = { name: '', store: memoryReplays() }, maxBytes = 1_048_576 } = options;
  const { holdMs = 60_000, keepMs = 1_814_400_000, secret, toleranceSeconds = 300, now = Date.now } = options;
  const { onError = warn } = options;
  const { store } = replays;

  async function verify(request: Request | IncomingMessage): Promise<VerifiedCallback> {
    const body = await readBody(request, maxBytes);
    return verifyCallback(scheme, { secret, headers: request.headers, body, toleranceSeconds, now });
  }

  /** Never rejects. */
  async function answer(request: Request | IncomingMessage, handlers: Handlers<Events>): Promise<Answer> {
    let callback: VerifiedCallback;
    try {
      callback = await verify(request);
    } catch (error) {
      const fault = faultOf(error);
      if (fault === undefined) tell(error);
      return fault ?? FAILED;
    }
    try {
      return { status: await handle(callback, handlers), text: '' };
    } catch (error) {
      tell(error);
      return FAILED;
    }
  }

  async function handle(callback: VerifiedCallback, handlers: Handlers<Events>): Promise<number> {
    const handler = handlerOf(handlers, callback.type);
    if (handler === undefined) return 204;
    const key = [replays.name, scheme, callback.id].join(' ');
    const begun = await store.begin(key, holdMs);
    if (begun.state !== 'new') return begun.state === 'done' ? 204 : 409;
    try {
      await handler(callback);
    } catch (error) {
      await Promise.resolve(store.abandon(key, begun.token)).catch(tell);
      throw error;
    }
    await store.finish(key, begun.token, keepMs);
    return 204;
  }

  function tell(error: unknown): void {
    try {
      onError(error);
    } catch {} // it must not throw, and the sender is to be answered all the same
  }

  async function respondTo(
    request: IncomingMessage,
    response: ServerResponse,
    handlers: Handlers<Events>,
  ): Promise<void> {
    const { status, text } = await answer(request, handlers);
    if (response.headersSent || response.destroyed) return; // somebody in front was tired of waiting
    // what was not read would have to be, before the next request
    if (!request.readableEnded) response.setHeader('connection', 'close');
    response.writeHead(status, text === '' ? {} : { 'content-type': 'text/plain' }).end(text);
  }

  return {
    verify,
    async respond(request, handlers) {
      const { status, text } = await answer(request, handlers);
      return new Response(text === '' ? null : text, { status });
    },
    listener: (handlers) => (request, response) => {
      respondTo(request, response, handlers).catch((error: unknown) => {
        tell(error);
        response.destroy();
      });
    },
  };
}

/** `Handlers` says what each takes, and the sender's signature that it is that. */
function handlerOf<Events>(
  handlers: Handlers<Events>,
  type: string,
): ((callback: VerifiedCallback) => unknown) | undefined {
  const byType = handlers as Readonly<Record<string, ((callback: VerifiedCallback) => unknown) | undefined>>;
  return (Object.hasOwn(byType, type) ? byType[type] : undefined) ?? byType['*'];
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

const FAILED: Answer = { status: 500, text: '' };

/** What the sender is told of its fault; undefined for what is ours. */
function faultOf(error: unknown): Answer | undefined {
  if (error instanceof UploadAborted) return { status: 400, text: '' }; // nobody is there to read it
  if (!(error instanceof WebhookVerificationError)) return undefined;
  if (error.code === 'SECRET_INVALID' || error.code === 'BODY_MISSING') return undefined;
  return { status: error.code === 'BODY_TOO_LARGE' ? 413 : 400, text: `${error.code}: ${error.message}\n` };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : 'a handler has rejected without an error');
}

/** The sender went away in the middle of its body. */
class UploadAborted extends Error {}

async function readBody(request: Request | IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const wasRead = 'bodyUsed' in request ? request.bodyUsed : request.readableEnded || request.readableDidRead;
  if (wasRead)
    throw new WebhookVerificationError(
      'BODY_MISSING',
      'the body was read before; receive callbacks ahead of what parses bodies',
    );
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(request)) {
    size += chunk.length;
    if (size > maxBytes) throw new WebhookVerificationError('BODY_TOO_LARGE', `expected at most ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function* chunksOf(request: Request | IncomingMessage): AsyncIterable<Uint8Array> {
  // left open when too much has come, so that it can be answered
  const stream = 'bodyUsed' in request ? (request.body ?? []) : request.iterator({ destroyOnReturn: false });
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw new UploadAborted('the request ended before its body did', { cause });
  }
}
