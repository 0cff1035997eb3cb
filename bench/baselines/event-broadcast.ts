import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serveMethods } from '../../test/support/worker.ts';

/** A bare HTTP server that writes the same server-sent event to all of its responses. */
export function createEventBroadcast() {
  const responses = new Set<ServerResponse>();
  let position = 0;

  return {
    /** @returns its URL */
    async listen(): Promise<string> {
      const server = createServer((request, response) => {
        request.resume();
        response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
        response.flushHeaders();
        responses.add(response);
        response.on('close', () => responses.delete(response));
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`; // an address, since it listens on TCP
    },
    /** Writes so many events in one turn, each by one `write` for each response, as text of the sample's size. */
    broadcast(sample: string, events: number): void {
      for (let event = 0; event < events; event++) {
        position++;
        const text = sample.replace(/"position":"\d+"/, `"position":"${position}"`);
        for (const response of responses) response.write(text);
      }
    },
  };
}

export type EventBroadcast = ReturnType<typeof createEventBroadcast>;

if (import.meta.main) serveMethods(createEventBroadcast());
