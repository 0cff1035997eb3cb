import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, handleProtocols } from 'graphql-ws';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Principal } from '../identity/principal.ts';
import { Connection } from './connection.ts';
import type { Gateway } from './gateway.ts';
import { createProtocol, type Extra } from './protocol.ts';
import { Turn } from './send-queue.ts';

/** The largest message from a client, in bytes: a larger one closes with 1009. */
export const MAX_MESSAGE_BYTES = 100 * 1024;
const PING_EVERY_MS = 12_000;

/** The WebSocket side of the server. */
export interface WebSockets {
  /** Takes an HTTP upgrade of a path and origin that were checked. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Sockets that are open. */
  connections(): ReadonlySet<Connection>;
  /** Lets new operations on open sockets go by what the keys may do now. */
  refresh(principals: ReadonlyMap<string, Principal>): void;
  /** Closes the sockets of these principals with 4403. */
  end(principalIds: ReadonlySet<string>): void;
  close(): void;
}

/**
 * `graphql-transport-ws` by graphql-ws's own protocol machine. Only `next` messages of subscriptions pass it by: the
 * live room serializes a result once, and each socket adds its operation's id.
 * @see https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
 */
export function createWebSockets(gateway: Gateway): WebSockets {
  const protocol = createProtocol(gateway);
  const connections = new Set<Connection>();
  const turn = new Turn();
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    // "complete" then "subscribe" of one id in one chunk would otherwise end the new operation (probes, section 4)
    allowSynchronousEvents: false,
    clientTracking: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: (protocols) => handleProtocols(protocols),
  });
  const ping = setInterval(() => {
    for (const connection of connections) connection.ping();
  }, PING_EVERY_MS);
  ping.unref();

  function open(socket: WebSocket, raw: Duplex): void {
    const connection = new Connection({ socket, raw, turn, observe: gateway.observe });
    connections.add(connection);
    const extra: Extra = { connection };
    const closed = protocol.opened(connection, extra);
    socket.on('error', () => {}); // 'close' follows, with its code
    socket.once('close', (code, reason) => {
      connections.delete(connection);
      connection.dispose();
      closed(code, String(reason)).catch((error: unknown) =>
        gateway.observe({ name: 'socket.failed', level: 'error', error }),
      );
    });
  }

  return {
    upgrade: (request, raw, head) => server.handleUpgrade(request, raw, head, (socket) => open(socket, raw)),
    connections: () => connections,
    refresh(principals) {
      for (const connection of connections) {
        const { principal } = connection;
        if (principal !== undefined) connection.principal = principals.get(principal.id) ?? principal;
      }
    },
    end(principalIds) {
      for (const connection of connections) {
        if (principalIds.has(connection.principal?.id ?? '')) connection.close(CloseCode.Forbidden, 'Forbidden');
      }
    },
    close() {
      clearInterval(ping);
      for (const connection of connections) connection.terminate();
      server.close();
    },
  };
}
