import type { IncomingMessage } from 'node:http';

/**
 * The CORS headers of an answer: only for a listed origin, never with credentials, never `*`. Keys travel in
 * `Authorization`, which no browser adds by itself.
 */
export function corsHeaders(request: IncomingMessage, origins: readonly string[]): [string, string][] {
  const { origin } = request.headers;
  if (origin === undefined || !origins.includes(origin)) return origins.length > 0 ? [['vary', 'Origin']] : [];
  return [
    ['vary', 'Origin'],
    ['access-control-allow-origin', origin],
    ['access-control-allow-methods', 'GET, POST'],
    ['access-control-allow-headers', 'authorization, content-type, idempotency-key, last-event-id, x-request-id'],
    ['access-control-expose-headers', 'x-request-id'],
    ['access-control-max-age', '600'],
  ];
}

/** Whether a browser page may open a WebSocket: none sends no origin, a page of this very host is ours, others are listed. */
export function isAllowedOrigin(request: IncomingMessage, origins: readonly string[]): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined) return true;
  return origins.includes(origin) || (URL.canParse(origin) && new URL(origin).host === host);
}
