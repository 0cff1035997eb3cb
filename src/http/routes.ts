import type { ServerResponse } from 'node:http';
import { corsHeaders } from './cors.ts';
import type { Respond } from './endpoint.ts';
import { refuseDelivery } from './loop.ts';
import { pathOf, requireOneHost } from './request-head.ts';
import type { HttpServerOptions } from './server.ts';

/** Longer than any statement may take. Node counts from the last progress it saw, so that it may take twice as long. */
const IDLE_SOCKET_MS = 60_000;

type RouteOptions = Pick<HttpServerOptions, 'servesGraphql' | 'corsOrigins' | 'draining' | 'readiness' | 'metrics'> & {
  /** Answers `/graphql`. */
  readonly endpoint: Respond;
};

/** Leads each request to what answers its path. What that throws is for the caller to answer. */
export function createRoutes(options: RouteOptions): Respond {
  const { endpoint, servesGraphql, corsOrigins, draining, readiness, metrics } = options;
  return async (request, response) => {
    // for an answer that its client does not read; pings keep streams alive. Not by the server: a WebSocket would keep the timer
    request.socket.setTimeout(IDLE_SOCKET_MS);
    const pathname = pathOf(request);
    requireOneHost(request);
    for (const [name, value] of corsHeaders(request, corsOrigins)) response.setHeader(name, value);
    if (pathname === '/graphql' && servesGraphql) {
      refuseDelivery(request);
      return request.method === 'OPTIONS' ? send(response, 204, '') : endpoint(request, response);
    }
    if (pathname === '/healthz') return send(response, 200, 'ok\n');
    if (pathname === '/readyz') return sendReadiness(response, draining.aborted ? 'draining' : await readiness());
    if (pathname === '/metrics') return send(response, 200, await metrics(), 'text/plain; version=0.0.4');
    send(response, 404, notFound(pathname, servesGraphql));
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
