import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { type Client, createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { GraphqlAnswer } from './app.ts';
import { eventually } from './eventually.ts';

/** A `graphql-transport-ws` message, parsed. */
export interface Message {
  readonly id?: string;
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read payloads of any shape
  readonly payload?: any;
}

/** A WebSocket whose messages a test sends and reads one by one. */
export interface RawSocket {
  readonly socket: WebSocket;
  readonly received: Message[];
  /** Resolves with the code and reason of the close. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  send(...messages: readonly object[]): void;
  /** The first message that fits, from the first received on. */
  find(fits: (message: Message) => boolean): Promise<Message>;
  end(): Promise<void>;
}

export interface RawSocketOptions {
  /** Sends `connection_init` with it and awaits the acknowledgement. */
  readonly key?: string;
  /** @default 'graphql-transport-ws' */
  readonly protocol?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Opens a WebSocket by the package `ws`. */
export async function openRawSocket(
  url: string,
  { key, protocol = 'graphql-transport-ws', headers = {} }: RawSocketOptions = {},
): Promise<RawSocket> {
  const socket = new WebSocket(url, protocol === '' ? [] : [protocol], { headers, perMessageDeflate: false });
  const received: Message[] = [];
  socket.on('message', (data) => void received.push(JSON.parse(String(data)) as Message));
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.once('close', (code, reason) => resolve({ code, reason: String(reason) })),
  );
  await once(socket, 'open');
  socket.on('error', () => {}); // 'close' follows
  const raw: RawSocket = {
    socket,
    received,
    closed,
    send(...messages) {
      for (const message of messages) socket.send(JSON.stringify(message));
    },
    find: (fits) => eventually(() => received.find(fits) ?? false, { describe: 'a message' }) as Promise<Message>,
    async end() {
      socket.terminate();
      await closed;
    },
  };
  if (key === undefined) return raw;
  raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } });
  await raw.find(({ type }) => type === 'connection_ack');
  return raw;
}

/** Makes a `subscribe` message. */
export function subscribeMessage(id: string, query: string, more: object = {}): object {
  return { id, type: 'subscribe', payload: { query, ...more } };
}

/** A stock graphql-ws client. */
export function stockClient(url: string, key: string, options: object = {}): Client {
  return createClient({
    url,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: `Bearer ${key}` },
    retryAttempts: 0,
    ...options,
  });
}

/** What one subscription of a stock client has brought so far. */
export interface Collected {
  readonly results: GraphqlAnswer[];
  error: unknown;
  isComplete: boolean;
  unsubscribe(): void;
}

/** Subscribes by a stock client and keeps whatever comes. */
export function collect(
  client: Client,
  query: string,
  variables: Record<string, unknown> = {},
  extensions?: Record<string, unknown>,
): Collected {
  const collected: Collected = { results: [], error: undefined, isComplete: false, unsubscribe: () => {} };
  collected.unsubscribe = client.subscribe(
    { query, variables, ...(extensions === undefined ? {} : { extensions }) },
    {
      next: (result) => void collected.results.push(result as GraphqlAnswer),
      error: (error) => {
        collected.error = error;
      },
      complete: () => {
        collected.isComplete = true;
      },
    },
  );
  return collected;
}

/** One server-sent event, or a comment. */
export interface ServerSentEvent {
  readonly event: string | undefined;
  readonly id: string | undefined;
  readonly data: string | undefined;
  readonly comment: string | undefined;
}

export interface SseStream {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly events: ServerSentEvent[];
  /** The results of `next` events, parsed. */
  results(): GraphqlAnswer[];
  /** The whole body so far: of an answer that is no stream. */
  text(): string;
  /** Resolves when the server has ended the response, or cut it off. */
  readonly ended: Promise<void>;
  pause(): void;
  resume(): void;
  end(): void;
}

export interface SseRequestOptions {
  readonly key: string;
  readonly query: string;
  readonly variables?: Record<string, unknown>;
  readonly extensions?: Record<string, unknown>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Posts a subscription and reads its answer as server-sent events. */
export async function openSse(
  url: string,
  { key, query, variables, extensions, headers = {} }: SseRequestOptions,
): Promise<SseStream> {
  const outgoing: ClientRequest = request(url, {
    method: 'POST',
    agent: false,
    headers: {
      accept: 'text/event-stream',
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      ...headers,
    },
  });
  outgoing.end(JSON.stringify({ query, variables, extensions }));
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  outgoing.on('error', () => {});
  const events: ServerSentEvent[] = [];
  let text = '';
  let rest = '';
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => {
    text += chunk;
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop() ?? '';
    events.push(...blocks.map(parseSse));
  });
  const ended = new Promise<void>((resolve) => response.once('close', () => resolve()));
  response.on('error', () => {});
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events,
    results: () =>
      events.flatMap(({ event, data }) => (event === 'next' ? [JSON.parse(data ?? '') as GraphqlAnswer] : [])),
    text: () => text,
    ended,
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    end: () => void outgoing.destroy(),
  };
}

function parseSse(block: string): ServerSentEvent {
  const lines = new Map(
    block.split('\n').map((line) => {
      const at = line.indexOf(':');
      return [line.slice(0, at), line.slice(at + 1).replace(/^ /, '')] as const;
    }),
  );
  return { event: lines.get('event'), id: lines.get('id'), data: lines.get('data'), comment: lines.get('') };
}

/** Sends bytes over TCP and gives all that comes back until the server closes, one character per byte. */
export async function exchange(
  port: number,
  text: string,
  { closeAfter }: { /** Hangs up when the answer holds it. */ readonly closeAfter?: string } = {},
): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {}); // a reset after the answer
  socket.setNoDelay(true);
  socket.write(text);
  return readToEnd(socket, closeAfter);
}

async function readToEnd(socket: Socket, closeAfter: string | undefined): Promise<string> {
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1');
    if (closeAfter !== undefined && answer.includes(closeAfter)) socket.destroy();
  });
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return answer;
}
