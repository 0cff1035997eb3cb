import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { isAllowedOrigin } from './cors.ts';
import { pathOf, requireOneHost } from './request-head.ts';
import type { HttpServerOptions } from './server.ts';
import type { WebSockets } from './websocket.ts';

/** An upgrade as Node's server gives it. */
export interface UpgradeRequest {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What came behind the request's head. */
  readonly head: Buffer;
}

type UpgradeOptions = Pick<HttpServerOptions, 'servesGraphql' | 'corsOrigins' | 'draining'>;

/** Hands an upgrade to the WebSockets, or refuses it with its status: another path, another origin, while the process drains. */
export function upgrade({ request, socket, head }: UpgradeRequest, sockets: WebSockets, options: UpgradeOptions): void {
  const status = upgradeFault(request, options);
  if (status === undefined) sockets.upgrade(request, socket, head);
  else refuse(socket, status);
}

/** The status line of a refusal; undefined for an upgrade that may go on. */
function upgradeFault(
  request: IncomingMessage,
  { servesGraphql, corsOrigins, draining }: UpgradeOptions,
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
