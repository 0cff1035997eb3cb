import type { IncomingMessage, ServerResponse } from 'node:http';
import type { EngineError } from '../errors.ts';
import type { Frame, Sink } from '../live/stream.ts';
import type { Caller, Gateway, Operation } from './gateway.ts';
import { HttpFault, type OperationRequest } from './request.ts';
import { createSendQueue, type SendQueue } from './send-queue.ts';

/** An open SSE response, for the drain. */
export interface SseStream {
  /** Ends it without `complete`, so that the client comes back. */
  close(): void;
}

export interface SseRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: OperationRequest;
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
export async function serveSse(gateway: Gateway, sse: SseRequest, open: Set<SseStream>): Promise<void> {
  const { body, caller } = sse;
  const operation = gateway.prepare(body, caller.principal);
  if (operation.kind === 'mutation' && sse.request.method === 'GET') throw new HttpFault(405, 'a mutation needs POST');
  if (operation.kind === 'subscription') return serveSubscription(gateway, operation, sse, open);
  const result = await gateway.run(operation, body, caller);
  start(sse.response);
  sse.response.end(`event: next\ndata: ${JSON.stringify(result)}\n\nevent: complete\ndata:\n\n`);
}

async function serveSubscription(
  gateway: Gateway,
  operation: Operation,
  { request, response, body, caller }: SseRequest,
  open: Set<SseStream>,
): Promise<void> {
  const queue = queueTo(response);
  const sink = sinkTo(response, queue);
  const lastEventId = request.headers['last-event-id'];
  const after = typeof lastEventId === 'string' && lastEventId !== '' ? lastEventId : undefined;
  const detach = await gateway.watch(operation, body, caller, { sink, after });
  if (response.destroyed) return detach();
  start(response);
  queue.drain();
  const ping = setInterval(() => queue.push(':\n\n'), PING_EVERY_MS);
  const stream = { close: () => sink.end() };
  open.add(stream);
  response.on('drain', () => queue.drain());
  response.on('close', () => {
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
  });
  response.flushHeaders();
}

function queueTo(response: ServerResponse): SendQueue {
  return createSendQueue({
    write: (texts) => void response.write(texts.join('')),
    // until the head is written nothing may be
    pendingBytes: () => (response.headersSent ? response.writableLength : Number.POSITIVE_INFINITY),
    onOverflow: () => response.destroy(),
  });
}

function sinkTo(response: ServerResponse, queue: SendQueue): Sink {
  return {
    next: ({ cursor, body }: Frame) => queue.push(`event: next\nid: ${cursor}\ndata: ${body}\n\n`),
    ready: () => queue.ready(),
    end(error?: EngineError) {
      if (error !== undefined) {
        const data = JSON.stringify({ errors: [{ message: error.message, extensions: { code: error.code } }] });
        queue.push(`event: next\ndata: ${data}\n\nevent: complete\ndata:\n\n`);
      }
      queue.finish();
      response.end();
    },
  };
}
