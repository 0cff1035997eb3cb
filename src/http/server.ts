import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { GraphQLSchema } from 'graphql';
import { EngineError, StartupError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { bearerKey } from './authenticate.ts';
import { corsHeaders, isAllowedOrigin } from './cors.ts';
import { type Departing, drain } from './drain.ts';
import type { Caller, Gateway } from './gateway.ts';
import { createGraphqlHttp } from './graphql.ts';
import {
  HttpFault,
  type OperationRequest,
  readIdempotencyKey,
  readJsonBody,
  requestIdOf,
  toOperationRequest,
} from './request.ts';
import { SseStreams, serveSse } from './sse.ts';
import { statusOf } from './status.ts';
import { createWebSockets, type WebSockets } from './websocket.ts';

export interface HttpServerOptions {
  readonly schema: GraphQLSchema;
  readonly gateway: Gateway;
  readonly graphiql: boolean;
  /** Whether this process has the role `api`; the others serve only health and metrics. */
  readonly servesGraphql: boolean;
  /** Origins of browsers that may call, beside the server's own. */
  readonly corsOrigins: readonly string[];
  /** Aborts when the process is told to stop: new sockets and streams are refused from then on. */
  readonly draining: AbortSignal;
  /** Whether the process can serve; the text says why not. */
  readonly readiness: () => Promise<string | undefined>;
  /** The text of `/metrics`. */
  readonly metrics: () => Promise<string>;
}

/** The HTTP side of a process. */
export interface HttpServer {
  /** @throws StartupError if the port is taken or may not be used. @returns the port, which matters for port 0 */
  listen(port: number, host: string): Promise<number>;
  /** The principals that have sockets. */
  socketOwners(): ReadonlySet<string>;
  /** Lets new operations on open sockets go by what the keys may do now. */
  refreshSockets(principals: ReadonlyMap<string, Principal>): void;
  /** Ends the sockets of these principals with 4403. */
  endSockets(principalIds: ReadonlySet<string>): void;
  /**
   * Sends the clients of sockets (1012) and streams away, spread over `windowMs`, closes the port, lets requests finish;
   * 3 s behind the window whatever is left is cut off. Call it when `draining` has aborted.
   */
  drain(windowMs: number): Promise<void>;
}

/** Longer than any statement may take. Node counts from the last progress it saw, so that it may take twice as long. */
const IDLE_SOCKET_MS = 60_000;

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const sockets = createWebSockets(options.gateway);
  const streams = new SseStreams();
  const yoga = createGraphqlHttp(options);
  const server = createServer(
    {
      maxHeaderSize: 16 * 1024,
      headersTimeout: 10_000,
      requestTimeout: 10_000,
      // longer than the 60 s of common proxies: one that reuses an idle connection must not meet its end
      keepAliveTimeout: 75_000,
      connectionsCheckingInterval: 1_000,
      requireHostHeader: true,
      ServerResponse: responseOf(options.draining),
      // other offers, such as h2c, are declined by serving the request as it is
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
    },
    (request, response) => {
      respond(request, response).catch((error: unknown) => fail(error, { request, response }));
    },
  );
  server.on('upgrade', (request, socket, head) => upgrade(request, { socket, head }, options, sockets));

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // for an answer that its client does not read; pings keep streams alive. Not by the server: a WebSocket would keep the timer
    request.socket.setTimeout(IDLE_SOCKET_MS);
    const pathname = pathOf(request);
    requireOneHost(request);
    for (const [name, value] of corsHeaders(request, options.corsOrigins)) response.setHeader(name, value);
    if (pathname === '/graphql' && options.servesGraphql) return serveGraphql(request, response);
    if (pathname === '/healthz') return send(response, 200, 'ok\n');
    if (pathname === '/readyz')
      return sendReadiness(response, options.draining.aborted ? 'draining' : await options.readiness());
    if (pathname === '/metrics') return send(response, 200, await options.metrics(), 'text/plain; version=0.0.4');
    send(response, 404, notFound(pathname, options.servesGraphql));
  }

  async function serveGraphql(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === 'OPTIONS') return send(response, 204, '');
    const requestId = requestIdOf(request);
    response.setHeader('x-request-id', requestId);
    // a page elsewhere can send a GET unasked, and every other method only after a preflight
    if (request.method === 'GET' && !isAllowedOrigin(request, options.corsOrigins))
      throw new EngineError('FORBIDDEN', 'this origin is not allowed; add it to CORS_ORIGINS');
    if (isForGraphiql(request, options.graphiql)) return serveByYoga(request, response, {});
    const principal = await options.gateway.keys.authenticate(bearerKey(request.headers.authorization));
    // yoga refuses other methods
    if (request.method !== 'GET' && request.method !== 'POST') return serveByYoga(request, response, {});
    const body = toOperationRequest(request.method === 'POST' ? await readJsonBody(request) : queryOf(request));
    const idempotencyKey = readIdempotencyKey(headerOf(request, 'idempotency-key'), body.extensions);
    const caller: Caller = { principal, requestId, idempotencyKey };
    if (!accepts(request, 'text/event-stream')) return serveByYoga(ofYoga(request, body), response, { caller });
    const isStream = options.gateway.prepare(body, principal).kind === 'subscription';
    if (!isStream && acceptsJson(request)) return serveByYoga(ofYoga(request, body), response, { caller });
    if (isStream) await admitStream({ request, response }, principal, options);
    await serveSse(options.gateway, { request, response, body, caller }, streams);
  }

  async function serveByYoga(
    request: IncomingMessage,
    response: ServerResponse,
    context: { caller?: Caller },
  ): Promise<void> {
    await yoga(request, response, context);
  }

  /** The same object for the same stream at each call: the drain remembers whom it has sent away. */
  function* departing(): Generator<Departing> {
    yield* streams;
    yield* sockets.connections();
  }

  /** Answers what went wrong before GraphQL could, as a GraphQL error all the same. */
  function fail(error: unknown, { request, response }: { request: IncomingMessage; response: ServerResponse }): void {
    if (response.headersSent) return void response.destroy();
    const requestId = String(response.getHeader('x-request-id') ?? requestIdOf(request));
    const { status, errors } = describeFault(options.gateway, error, requestId);
    if (!request.complete) response.setHeader('connection', 'close');
    if (PASSING.has(status)) response.setHeader('retry-after', '1');
    response.setHeader('content-type', 'application/json; charset=utf-8');
    if (status === 405) response.setHeader('allow', 'POST');
    if (status === 401) response.setHeader('www-authenticate', 'Bearer');
    response.writeHead(status).end(JSON.stringify({ errors }));
  }

  return {
    listen: (port, host) => listen(server, { port, host }),
    socketOwners: () => new Set([...sockets.connections()].flatMap(({ principal }) => principal?.id ?? [])),
    refreshSockets: (principals) => sockets.refresh(principals),
    endSockets: (principalIds) => sockets.end(principalIds),
    async drain(windowMs) {
      await drain({ server, open: () => [...departing()], windowMs });
      sockets.close();
    },
  };
}

/**
 * Takes a place for an event stream, given back when its connection or answer ends.
 * @throws EngineError UNAVAILABLE while the process drains; RATE_LIMITED if the key has as many connections as it may
 */
async function admitStream(
  { request, response }: { readonly request: IncomingMessage; readonly response: ServerResponse },
  { id }: Principal,
  { gateway, draining }: HttpServerOptions,
): Promise<void> {
  if (draining.aborted) throw new EngineError('UNAVAILABLE', 'the server is stopping; connect again');
  if (!(await gateway.connections.take(id)))
    throw new EngineError('RATE_LIMITED', 'the key has as many connections as it may; close some, or use another key');
  const { socket } = request;
  let isHeld = true;
  const release = () => {
    response.off('close', release);
    socket.off('close', release);
    // one that is taken off while its event is under way is called all the same
    if (isHeld) gateway.connections.release(id);
    isHeld = false;
  };
  if (response.destroyed || socket.destroyed) return release();
  response.once('close', release);
  // an answer that waits behind another on its connection is never told that this has closed
  socket.once('close', release);
}

/** yoga takes the parsed body from the request. */
function ofYoga(request: IncomingMessage, body: OperationRequest): IncomingMessage {
  return Object.assign(request, { body });
}

/** Answers that tell their clients, while the process drains, to open the next connection, which then leads elsewhere. */
function responseOf(draining: AbortSignal): typeof ServerResponse {
  return class<Request extends IncomingMessage> extends ServerResponse<Request> {
    /** Whatever its overloads take is passed on as it is. */
    override writeHead(...given: never[]): this {
      if (draining.aborted) this.setHeader('connection', 'close');
      Reflect.apply(super.writeHead, this, given);
      return this;
    }
  };
}

/** Of refusals that may be asked again soon. */
const PASSING: ReadonlySet<number> = new Set([429, 503]);

function describeFault(gateway: Gateway, error: unknown, requestId: string) {
  if (error instanceof HttpFault)
    return { status: error.status, errors: [{ message: error.message, extensions: { code: error.code } }] };
  const errors = gateway.report(error, requestId);
  return { status: statusOf(errors[0]?.extensions.code), errors };
}

/** @throws HttpFault 400 for a target that is no path, such as `//` */
function pathOf(request: IncomingMessage): string {
  const target = request.url ?? '/';
  if (!URL.canParse(target, 'http://host')) throw new HttpFault(400, 'the request target is not a path');
  return new URL(target, 'http://host').pathname;
}

/** Two hosts would be one to a proxy and the other here. @throws HttpFault 400 @see RFC 9112, section 3.2 */
function requireOneHost({ rawHeaders }: IncomingMessage): void {
  const hosts = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length > 1) throw new HttpFault(400, 'the request has more than one Host header');
}

/** Whether an `Accept` names the type, and not with `q=0`. */
function accepts({ headers }: IncomingMessage, type: string): boolean {
  const ranges = (headers.accept ?? '').toLowerCase().split(',');
  return ranges.some((range) => range.split(';')[0]?.trim() === type && !/;\s*q=0(\.0*)?\s*(;|$)/.test(range));
}

function acceptsJson(request: IncomingMessage): boolean {
  return ['application/json', 'application/graphql-response+json', '*/*'].some((type) => accepts(request, type));
}

function isForGraphiql(request: IncomingMessage, isOn: boolean): boolean {
  return (
    isOn &&
    request.method === 'GET' &&
    (request.headers.accept ?? '').includes('text/html') &&
    !/[?&]query=/.test(request.url ?? '')
  );
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** A GET's parameters, as a body would hold them. */
function queryOf(request: IncomingMessage): unknown {
  const { searchParams } = new URL(request.url ?? '/', 'http://host');
  const json = (name: string) => {
    const text = searchParams.get(name);
    try {
      return text === null ? undefined : (JSON.parse(text) as unknown);
    } catch {
      throw new EngineError('BAD_INPUT', `"${name}" is not JSON`);
    }
  };
  return {
    query: searchParams.get('query'),
    operationName: searchParams.get('operationName'),
    variables: json('variables'),
    extensions: json('extensions'),
  };
}

function notFound(pathname: string, servesGraphql: boolean): string {
  if (servesGraphql) return `there is nothing at ${pathname.slice(0, 100)}; the API is at /graphql\n`;
  return 'this process has not the role "api" (ROLES); ask one that has. Here are /healthz, /readyz and /metrics\n';
}

function send(response: ServerResponse, status: number, text: string, type = 'text/plain'): void {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8` }).end(text);
}

function sendReadiness(response: ServerResponse, reason: string | undefined): void {
  send(response, reason === undefined ? 200 : 503, `${reason ?? 'ready'}\n`);
}

function upgrade(
  request: IncomingMessage,
  { socket, head }: { socket: Duplex; head: Buffer },
  options: HttpServerOptions,
  sockets: WebSockets,
): void {
  const status = upgradeFault(request, options);
  if (status === undefined) sockets.upgrade(request, socket, head);
  else refuse(socket, status);
}

/** The status line of a refusal; undefined for an upgrade that may go on. */
function upgradeFault(
  request: IncomingMessage,
  { servesGraphql, corsOrigins, draining }: HttpServerOptions,
): string | undefined {
  try {
    requireOneHost(request);
    if (pathOf(request) !== '/graphql' || !servesGraphql) return '404 Not Found';
    if (!isAllowedOrigin(request, corsOrigins)) return '403 Forbidden';
    return draining.aborted ? '503 Service Unavailable\r\nretry-after: 1' : undefined;
  } catch {
    return '400 Bad Request';
  }
}

/** An upgraded socket is nobody's: without the destroy, a peer that never closes would keep it, and the stop, for ever. */
function refuse(socket: Duplex, status: string): void {
  socket.on('error', () => {}); // it is closed either way
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}

async function listen(server: Server, { port, host }: { port: number; host: string }): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(describeListenFault(error, { port, host })));
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port; // a TCP server's address is never a path
}

function describeListenFault(
  error: NodeJS.ErrnoException,
  { port, host }: { port: number; host: string },
): StartupError {
  const reason = {
    EADDRINUSE: `port ${port} on ${host} is in use; stop its owner or set PORT to another, 0 for any free one`,
    EACCES: `port ${port} on ${host} may not be used by this user; set PORT to 1024 or more`,
    EADDRNOTAVAIL: `HOST ${host} is not an address of this machine; set HOST to one, 127.0.0.1 or 0.0.0.0`,
  }[error.code ?? ''];
  return new StartupError(reason ?? `can't listen on ${host}:${port}: ${error.message}`, { cause: error });
}
