import type { SubscribePayload } from 'graphql-ws';
import { createEmitter, type Emitter, type Listeners } from './emitter.ts';
import { createEventStreamReader } from './event-stream.ts';
import { type Fault, WatchError } from './fault.ts';
import { type AttemptSink, addressOf, authorizationBy, type Key, type Link, type Result } from './link.ts';

export interface SseLinkOptions {
  readonly url: string;
  readonly key: Key;
  /** @default the global one, which browsers and Node have */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Listeners, by the names of graphql-ws; each operation has a connection of its own, and tells of it. */
  readonly on?: Listeners | undefined;
  /** A stream that brings nothing for so long is dead: the server sends a comment every 12 s. @default 30_000 (ms) */
  readonly silenceMs?: number | undefined;
}

const SILENCE_MS = 30_000;
/** For the key and the head of the answer. */
const CONNECT_WITHIN_MS = 10_000;
/** Statuses of conditions that pass, beside 5xx. */
const PASSING_STATUSES = [408, 425, 429];

/**
 * Each operation is a request of its own, answered by server-sent events: for where WebSockets are blocked.
 * @see https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md#distinct-connections-mode
 */
export function createSseLink(options: SseLinkOptions): Link {
  const emitter = createEmitter(options.on);
  const url = addressOf(options.url, 'http');
  const streams = new Set<AbortController>();
  const breakAll = () => {
    for (const stream of streams) stream.abort(new Error('terminated'));
  };
  return {
    start(payload, sink) {
      const stream = new AbortController();
      let isStopped = false;
      streams.add(stream);
      const told: AttemptSink = {
        sent: () => isStopped || sink.sent(),
        accepted: () => isStopped || sink.accepted(),
        next: (result) => isStopped || sink.next(result),
        end(fault) {
          streams.delete(stream);
          if (!isStopped) sink.end(fault);
        },
      };
      void follow({ ...options, url }, { payload, sink: told, stream, emitter });
      return () => {
        isStopped = true;
        stream.abort(new Error('stopped'));
      };
    },
    flowing: () => {}, // an operation's own waits are all there are
    terminate: breakAll,
    dispose: breakAll,
    on: emitter.on,
  };
}

interface Following {
  readonly payload: SubscribePayload;
  readonly sink: AttemptSink;
  /** Aborted with the reason that it ends for. */
  readonly stream: AbortController;
  readonly emitter: Emitter;
}

/** One request, to its end. Never rejects. */
async function follow(options: SseLinkOptions, { payload, sink, stream, emitter }: Following): Promise<void> {
  const { silenceMs = SILENCE_MS } = options;
  const dog = watchdog(stream);
  try {
    dog.expect(CONNECT_WITHIN_MS, 'the server did not answer');
    emitter.emit('connecting', false);
    const response = await request(options, { payload, sink, stream });
    if (!isEventStream(response)) throw await readRefusal(response);
    emitter.emit('connected', undefined, undefined, false);
    sink.accepted();
    const isComplete = await readResults(response, sink, () => dog.expect(silenceMs, 'the stream fell silent'));
    emitter.emit('closed', undefined);
    sink.end(isComplete ? undefined : new Error('the stream broke off'));
  } catch (error) {
    const fault = stream.signal.aborted ? stream.signal.reason : (faultOf(error) ?? error);
    emitter.emit('error', fault);
    emitter.emit('closed', undefined);
    sink.end(fault);
  } finally {
    dog.stop();
    stream.abort(); // what is left of the answer
  }
}

function watchdog(stream: AbortController) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = () => clearTimeout(timer);
  return {
    stop,
    expect(ms: number, otherwise: string) {
      stop();
      timer = setTimeout(() => stream.abort(new Error(`${otherwise} for ${ms / 1_000} s`)), ms);
    },
  };
}

async function request(
  { url, key, fetch = globalThis.fetch }: SseLinkOptions,
  { payload, sink, stream }: Pick<Following, 'payload' | 'sink' | 'stream'>,
): Promise<Response> {
  const authorization = await authorizationBy(key);
  stream.signal.throwIfAborted();
  sink.sent();
  return fetch(url, {
    method: 'POST',
    headers: { authorization, accept: 'text/event-stream', 'content-type': 'application/json' },
    body: JSON.stringify(payload),
    signal: stream.signal,
    cache: 'no-store',
  });
}

function isEventStream({ ok, headers }: Response): boolean {
  return ok && (headers.get('content-type') ?? '').startsWith('text/event-stream');
}

/** @returns whether the server has completed it @throws what broke it */
async function readResults({ body }: Response, sink: AttemptSink, onPiece: () => void): Promise<boolean> {
  if (body === null) return false;
  const read = createEventStreamReader();
  const decoder = new TextDecoder();
  const reader = body.getReader(); // Safari can't iterate it
  for (;;) {
    onPiece();
    const { done, value } = await reader.read();
    for (const { event, data } of read(decoder.decode(value, { stream: !done }))) {
      if (event === 'complete') return true;
      if (event === 'next') sink.next(JSON.parse(data) as Result); // a result, says the protocol
    }
    if (done) return false;
  }
}

/** Carries a fault that is no Error through a throw. */
class Refusal extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super('refused');
    this.fault = fault;
  }
}

function faultOf(error: unknown): Fault | undefined {
  return error instanceof Refusal ? error.fault : undefined;
}

/** An answer that is no stream: the errors in it, or its status. */
async function readRefusal(response: Response): Promise<Refusal> {
  const { status } = response;
  const errors = errorsIn(await response.text());
  if (errors !== undefined) return new Refusal(errors);
  const message = `the server answered with the HTTP status ${status}`;
  const isFinal = status < 500 && !PASSING_STATUSES.includes(status);
  return new Refusal(isFinal ? new WatchError('CONNECTION_REFUSED', message, { status }) : new Error(message));
}

function errorsIn(text: string): readonly unknown[] | undefined {
  try {
    // null and arrays have no errors; reading a name of anything else is safe
    const { errors } = (JSON.parse(text) ?? {}) as { readonly errors?: unknown };
    return Array.isArray(errors) && errors.length > 0 ? errors : undefined;
  } catch {
    return undefined;
  }
}
