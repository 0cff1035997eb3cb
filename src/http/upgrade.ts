import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { isAllowedOrigin } from './cors.ts';
import { isDelivery, LOOP_DETECTED_MESSAGE } from './loop.ts';
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

/** Of an upgrade that is not taken. */
interface UpgradeFault {
  /** The status line, and headers if there are more. */
  readonly head: string;
  /** JSON. @default nothing */
  readonly body?: string;
}

type UpgradeOptions = Pick<HttpServerOptions, 'servesGraphql' | 'corsOrigins' | 'draining'>;

/** Hands an upgrade to the WebSockets, or refuses it with its status: another path, another origin, while the process drains. */
export function upgrade({ request, socket, head }: UpgradeRequest, sockets: WebSockets, options: UpgradeOptions): void {
  const fault = upgradeFault(request, options);
  if (fault === undefined) sockets.upgrade(request, socket, head);
  else refuse(socket, fault);
}

/** Undefined for an upgrade that may go on. */
function upgradeFault(
  request: IncomingMessage,
  { servesGraphql, corsOrigins, draining }: UpgradeOptions,
): UpgradeFault | undefined {
  try {
    requireOneHost(request);
    if (pathOf(request) !== '/graphql' || !servesGraphql) return { head: '404 Not Found' };
    if (isDelivery(request)) return { head: '508 Loop Detected', body: LOOP_DETECTED };
    if (!isAllowedOrigin(request, corsOrigins)) return { head: '403 Forbidden' };
    return draining.aborted ? { head: '503 Service Unavailable\r\nretry-after: 1' } : undefined;
  } catch {
    return { head: '400 Bad Request' };
  }
}

/** An upgraded socket is nobody's: without the destroy, a peer that never closes would keep it, and the stop, for ever. */
function refuse(socket: Duplex, { head, body = '' }: UpgradeFault): void {
  socket.on('error', () => {}); // it is closed either way
  socket.once('finish', () => socket.destroy());
  const type = body === '' ? '' : '\r\ncontent-type: application/json; charset=utf-8';
  const length = Buffer.byteLength(body);
  socket.end(`HTTP/1.1 ${head}\r\nconnection: close${type}\r\ncontent-length: ${length}\r\n\r\n${body}`);
}

const LOOP_DETECTED = JSON.stringify({
  errors: [{ message: LOOP_DETECTED_MESSAGE, extensions: { code: 'LOOP_DETECTED' } }],
});
