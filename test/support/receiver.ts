import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { eventually } from './eventually.ts';

export interface ReceivedRequest {
  readonly method: string;
  /** With the query, as it came. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The bytes that were signed. */
  readonly body: Buffer;
  readonly receivedAt: Date;
}

/** How the receiver behaves once it has read a request. */
export type Behaviour =
  | Answer
  /** Never answers. */
  | { readonly kind: 'hang' }
  /** Resets the connection instead of answering. */
  | { readonly kind: 'reset' }
  /** Answers 200 and then sends one byte each `everyMs`, without end. */
  | { readonly kind: 'drip'; readonly everyMs: number };

export interface Answer {
  readonly kind?: 'answer';
  /** @default 200 */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  /** Answers only when this resolves: the test holds the other end. */
  readonly after?: Promise<unknown>;
}

/** A real HTTP server on loopback that stands for somebody's webhook endpoint. */
export interface Receiver {
  readonly port: number;
  readonly url: string;
  /** Every request whose body arrived whole, in order of arrival. */
  readonly requests: readonly ReceivedRequest[];
  /** How many connections were ever accepted: none, where an address was refused before connecting. */
  readonly connectionCount: number;
  /** The oldest matching request that no `next` gave yet; waits for it, as `eventually` does. */
  next(matches?: (request: ReceivedRequest) => boolean): Promise<ReceivedRequest>;
  /** How to behave at this path from now on (`*`: at every path without its own). @default answers 200 */
  always(path: string, behaviour: Behaviour): void;
  /** Behaviours for the next requests at this path, each used once, before what `always` says. */
  script(path: string, ...behaviours: readonly Behaviour[]): void;
  close(): Promise<void>;
}

/** Port 0 takes a free one; give the port of a closed receiver to bring it back. */
export async function openReceiver({ host = '127.0.0.1', port = 0 } = {}): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  const given = new Set<ReceivedRequest>();
  const plan = createPlan();
  let connectionCount = 0;
  const server = createServer((request, response) => {
    receive(request).then(
      (received) => {
        requests.push(received);
        behave(response, plan.take(pathWithoutQuery(received.path)));
      },
      () => response.destroy(), // the sender went away in the middle of its body
    );
  });
  server.on('connection', () => connectionCount++);
  server.listen(port, host);
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port; // an address, since it listens on TCP
  return {
    port: bound,
    url: `http://${host}:${bound}`,
    requests,
    get connectionCount() {
      return connectionCount;
    },
    async next(matches = () => true) {
      const request = await eventually(() => requests.find((each) => !given.has(each) && matches(each)) ?? false, {
        describe: `a request at ${host}:${bound} that matches ${matches}`,
      });
      given.add(request);
      return request;
    },
    always: plan.always,
    script: plan.script,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function receive(request: IncomingMessage): Promise<ReceivedRequest> {
  const receivedAt = new Date();
  const { method = '', url: path = '', headers } = request;
  return { method, path, headers, body: await buffer(request), receivedAt };
}

function pathWithoutQuery(path: string): string {
  return path.split('?', 1).join();
}

function createPlan() {
  const scripted = new Map<string, Behaviour[]>();
  const standing = new Map<string, Behaviour>();
  return {
    always: (path: string, behaviour: Behaviour): void => void standing.set(path, behaviour),
    script(path: string, ...behaviours: readonly Behaviour[]): void {
      scripted.set(path, [...(scripted.get(path) ?? []), ...behaviours]);
    },
    take: (path: string): Behaviour =>
      scripted.get(path)?.shift() ?? scripted.get('*')?.shift() ?? standing.get(path) ?? standing.get('*') ?? {},
  };
}

function behave(response: ServerResponse, behaviour: Behaviour): void {
  switch (behaviour.kind) {
    case 'hang':
      return;
    case 'reset':
      response.socket?.resetAndDestroy();
      return;
    case 'drip':
      drip(response, behaviour.everyMs);
      return;
    default:
      void answer(response, behaviour).catch(() => response.destroy()); // `after` rejected: the test gave up
  }
}

async function answer(
  response: ServerResponse,
  { status = 200, headers = {}, body = '', after }: Answer,
): Promise<void> {
  await after;
  response.writeHead(status, headers).end(body);
}

function drip(response: ServerResponse, everyMs: number): void {
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.write('.');
  const timer = setInterval(() => response.write('.'), everyMs);
  response.on('close', () => clearInterval(timer));
}
