import type { IncomingMessage, ServerResponse } from 'node:http';
import type { EngineError } from '../errors.ts';
import type { Frame, Sink } from '../live/stream.ts';
import { toByteString } from '../runtime/byte-string.ts';
import type { Departing } from './drain.ts';
import type { Caller, Gateway, Operation } from './gateway.ts';
import { isGone, whenGone } from './hang-up.ts';
import { HttpFault, type OperationRequest } from './request.ts';
import { type Outlet, SendQueue, Turn } from './send-queue.ts';

/** An open SSE response. The drain ends it without `complete`, so that the client comes back. */
export type SseStream = Departing;

/** The open responses of a server. */
export class SseStreams extends Set<SseStream> {
  readonly turn = new Turn();
  /** Streams that share an execution get equal texts one after another: each is made once for all of them. */
  readonly eventOf = rememberLast(eventOf);
  readonly chunkOf = rememberLast(chunkOf);
}

function rememberLast<Asked, Made>(make: (asked: Asked) => Made): (asked: Asked) => Made {
  let last: { readonly asked: Asked; readonly made: Made } | undefined;
  return (asked) => {
    if (last?.asked !== asked) last = { asked, made: make(asked) };
    return last.made;
  };
}

export interface SseRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: OperationRequest;
  /** Of `body`. */
  readonly operation: Operation;
  readonly caller: Caller;
}

/** A comment line this often keeps proxies from closing a quiet stream. */
const PING_EVERY_MS = 12_000;

/**
 * Answers one operation as server-sent events, in the distinct-connections mode of GraphQL over SSE: `next` for each
 * result, `complete` at the end. The `id:` line of `next` is the event's cursor; `Last-Event-ID` goes on behind it.
 * Errors before the first event are an HTTP error instead.
 * @see https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
 */
export async function serveSse(gateway: Gateway, sse: SseRequest, open: SseStreams): Promise<void> {
  const { body, operation, caller } = sse;
  if (operation.kind === 'mutation' && sse.request.method === 'GET') throw new HttpFault(405, 'a mutation needs POST');
  if (operation.kind === 'subscription') return serveSubscription(gateway, sse, open);
  const result = await gateway.run(operation, body, caller);
  const data = JSON.stringify(result); // before the head: what fails here is answered as an HTTP error
  start(sse.response);
  sse.response.end(`event: next\ndata: ${data}\n\nevent: complete\ndata:\n\n`);
}

async function serveSubscription(
  gateway: Gateway,
  { request, response, body, operation, caller }: SseRequest,
  open: SseStreams,
): Promise<void> {
  const queue = new SendQueue(outletOf(response, open), open.turn);
  const sink = sinkTo(response, queue, open);
  const lastEventId = request.headers['last-event-id'];
  const after = typeof lastEventId === 'string' && lastEventId !== '' ? lastEventId : undefined;
  const detach = await gateway.watch(operation, body, caller, { sink, after });
  if (isGone(response)) return detach();
  start(response);
  queue.flush();
  const ping = setInterval(() => queue.push(':\n\n'), PING_EVERY_MS);
  const stream = { sendAway: () => sink.end(), isBusy: () => false, terminate: () => response.destroy() };
  open.add(stream);
  whenGone(response, () => {
    clearInterval(ping);
    open.delete(stream);
    queue.close();
    detach();
  });
}

function start(response: ServerResponse): void {
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    connection: 'keep-alive',
    // Node's own default, said here because chunks are framed below
    ...(isChunked(response) ? { 'transfer-encoding': 'chunked' } : {}),
  });
  response.flushHeaders();
}

/** HTTP/1.0 has no chunks: the end of the connection ends the answer. @see RFC 9112, section 6.1 */
function isChunked({ req }: ServerResponse): boolean {
  return req.httpVersionMinor > 0;
}

function outletOf(response: ServerResponse, { chunkOf }: SseStreams): Outlet {
  const { socket } = response.req;
  const chunked = isChunked(response);
  return {
    write(bytes) {
      // what the response holds back itself, before its turn on the connection, goes first
      const isDirect = response.socket === socket && response.writableLength === socket.writableLength;
      if (!isDirect || typeof bytes !== 'string') response.write(bytes, 'latin1');
      else socket.write(chunked ? chunkOf(bytes) : bytes, 'latin1');
    },
    // until the head is written nothing may be
    pendingBytes: () => (response.headersSent ? response.writableLength : Number.POSITIVE_INFINITY),
    whenDrained: (resume) => void socket.once('drain', resume),
    onOverflow: () => void response.destroy(),
  };
}

/**
 * Past the response, as one text in one write: `response.write` makes four pieces of it, held back until the next tick and
 * joined there.
 * @see RFC 9112, section 7.1
 */
function chunkOf(bytes: string): string {
  return `${bytes.length.toString(16)}\r\n${bytes}\r\n`;
}

/** As it goes over the wire, a byte string. */
function eventOf({ cursor, bytes }: Frame): string {
  return `event: next\nid: ${cursor}\ndata: ${bytes}\n\n`;
}

function sinkTo(response: ServerResponse, queue: SendQueue, { eventOf }: SseStreams): Sink {
  return {
    next: (frame: Frame) => queue.push(eventOf(frame)),
    ready: () => queue.ready(),
    end(error?: EngineError) {
      if (error !== undefined) {
        const data = JSON.stringify({
          errors: [{ message: error.message, extensions: { ...error.details, code: error.code } }],
        });
        queue.push(toByteString(`event: next\ndata: ${data}\n\nevent: complete\ndata:\n\n`));
      }
      queue.finish();
      response.end();
    },
  };
}
