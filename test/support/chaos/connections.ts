import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { WebSocket } from 'ws';

/** A subscription over one connection, without any cleverness. */
export interface Subscription {
  readonly url: string;
  readonly key: string;
  readonly query: string;
  readonly variables: Readonly<globalThis.Record<string, unknown>>;
  readonly extensions: Readonly<globalThis.Record<string, unknown>>;
  /** Over SSE only. */
  readonly lastEventId?: string | undefined;
  readonly onResult: (result: Result) => void;
  readonly signal: AbortSignal;
}

/** What comes over the wire. */
export interface Result {
  readonly data?: { readonly events: { readonly id: string; readonly position: string } } | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: { readonly code?: string } }[];
  readonly extensions?: { readonly cursor?: string };
}

const CONNECT_WITHIN_MS = 10_000;

/** Subscribes over WebSocket. @returns why it ended; never rejects */
export function followSocket(subscription: Subscription): Promise<string> {
  const { url, key, query, variables, extensions, onResult, signal } = subscription;
  const socket = new WebSocket(url.replace('http', 'ws'), 'graphql-transport-ws', {
    perMessageDeflate: false,
    handshakeTimeout: CONNECT_WITHIN_MS,
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const stop = () => socket.terminate();
  signal.addEventListener('abort', stop, { once: true });
  const send = (message: object) => socket.send(JSON.stringify(message));
  socket.on('open', () => send({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } }));
  socket.on('message', (data) => {
    const { type, payload } = JSON.parse(String(data)) as { readonly type: string; readonly payload: Result };
    if (type === 'connection_ack') send({ id: '1', type: 'subscribe', payload: { query, variables, extensions } });
    if (type === 'ping') send({ type: 'pong' });
    if (type === 'next') onResult(payload);
    if (type !== 'error' && type !== 'complete') return;
    resolve(`${type} ${JSON.stringify(payload ?? '')}`);
    socket.terminate();
  });
  socket.on('error', ({ message }) => resolve(message));
  socket.on('close', (code, reason) => {
    signal.removeEventListener('abort', stop);
    resolve(`closed with ${code} ${reason}`);
  });
  return promise;
}

/** Subscribes over SSE. @returns why it ended; never rejects */
export function followSse(subscription: Subscription): Promise<string> {
  const { url, key, query, variables, extensions, lastEventId, onResult, signal } = subscription;
  const { promise, resolve } = Promise.withResolvers<string>();
  const outgoing: ClientRequest = request(url, {
    method: 'POST',
    agent: false,
    signal,
    headers: {
      accept: 'text/event-stream',
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
    },
  });
  outgoing.on('error', ({ message }) => resolve(message));
  outgoing.on('response', (response) => {
    response.on('close', () => resolve(response.complete ? 'the server ended the response' : 'the response was cut'));
    response.on('error', () => {}); // 'close' follows
    if (response.statusCode === 200) readStream(response, onResult);
    else void readText(response).then((text) => resolve(`${response.statusCode} ${text}`));
  });
  outgoing.end(JSON.stringify({ query, variables, extensions }));
  return promise;
}

/** Reads whole blocks only: what a killed server sent half of is as if it had never come. */
function readStream(response: IncomingMessage, onResult: (result: Result) => void): void {
  let rest = '';
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => {
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = block.startsWith('event: next') ? /^data: (.*)$/m.exec(block)?.[1] : undefined;
      if (data !== undefined) onResult(JSON.parse(data) as Result);
    }
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await new Promise<void>((resolve) => response.once('close', () => resolve()));
  return text.slice(0, 500);
}
