import type { Socket } from 'node:net';
import type { Dispatcher } from 'undici';

/**
 * In an answer's head, or in its trailers. undici bounds only their bytes, and holds two objects for each: 4,000 lines of 4
 * bytes cost 1 MB until the deadline, so that the receivers of one account could have made a process hold 700 MB (measured 2026-11-22).
 */
export const MAX_HEADER_LINES = 256;

/** Counts the header lines of an answer's head that is whole. */
export function countHeaders({ rawHeaders }: Dispatcher.DispatchController): number {
  return Array.isArray(rawHeaders) ? rawHeaders.length / 2 : 0;
}

/**
 * Counts the header lines that undici holds of a head, or of trailers, that are coming in on a socket; none once they are
 * whole. It tells nobody of them before, so this looks at its parser. Call it when undici has taken the socket.
 *
 * @throws Error if it has no such parser: another undici than the one that this was written for
 */
export function createHeaderCount(socket: Socket): () => number {
  const key = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'parser');
  if (key === undefined || countOf(socket, key) === undefined)
    throw new Error("expected undici's parser on its socket, found none: look at src/webhooks/header-count.ts");
  return () => countOf(socket, key) ?? 0;
}

/** A name and a value for each line. Undefined without a parser, as when the connection is closed. */
function countOf(socket: Socket, key: symbol): number | undefined {
  const parser: unknown = Reflect.get(socket, key);
  const headers: unknown = typeof parser === 'object' && parser !== null ? Reflect.get(parser, 'headers') : undefined;
  return Array.isArray(headers) ? headers.length / 2 : undefined;
}
