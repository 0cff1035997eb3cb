import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import '../support/collect-garbage.ts';
import { serveMethods } from '../../test/support/worker.ts';

/** A bare `ws` server that sends the same frame to all of its sockets, as the package's own example does. */
export function createBroadcast() {
  const sockets = new Set<WebSocket>();
  let position = 0;

  return {
    /** Acknowledges what a GraphQL client sends first, so that its side does the same work. @returns its URL */
    async listen(): Promise<string> {
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
      server.on('connection', (socket) => {
        sockets.add(socket);
        socket.once('message', () => socket.send('{"type":"connection_ack"}'));
        socket.on('close', () => sockets.delete(socket));
      });
      await once(server, 'listening');
      return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`; // an address, since it listens on TCP
    },
    /** Sends so many events in one turn, each by one `send` for each socket, as text of the sample's size. */
    broadcast(sample: string, events: number): void {
      for (let event = 0; event < events; event++) {
        position++;
        const text = sample.replace(/"position":"\d+"/, `"position":"${position}"`);
        const frame = Buffer.from(text);
        for (const socket of sockets) socket.send(frame, { binary: false });
      }
    },
  };
}

export type Broadcast = ReturnType<typeof createBroadcast>;

if (import.meta.main) serveMethods(createBroadcast());
