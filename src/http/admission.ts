import type { ServerResponse } from 'node:http';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { whenGone } from './hang-up.ts';
import type { HttpServerOptions } from './server.ts';

/**
 * Takes a place for an event stream, given back when its connection or answer ends.
 * @throws EngineError UNAVAILABLE while the process drains; RATE_LIMITED if the key has as many connections as it may
 */
export async function admitStream(
  response: ServerResponse,
  { id }: Principal,
  { gateway, draining }: Pick<HttpServerOptions, 'gateway' | 'draining'>,
): Promise<void> {
  if (draining.aborted) throw new EngineError('UNAVAILABLE', 'the server is stopping; connect again');
  if (!(await gateway.connections.take(id))) throw tooManyConnections();
  whenGone(response, () => gateway.connections.release(id));
}

/** What a key is told that has as many WebSockets and event streams as it may. */
export function tooManyConnections(): EngineError {
  return new EngineError('RATE_LIMITED', 'the key has as many connections as it may; close some, or use another key');
}
