import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, handleProtocols } from 'graphql-ws';
import { WebSocketServer } from 'ws';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import { ClientSocket, Connection, type ServerSide } from './connection.ts';
import type { Gateway } from './gateway.ts';
import { hearOfOperations } from './operations.ts';
import { createProtocol, type Greet } from './protocol.ts';
import { Turn } from './send-queue.ts';

/** The largest message from a client, in bytes: a larger one closes with 1009. */
export const MAX_MESSAGE_BYTES = 100 * 1024;
const PING_EVERY_MS = 12_000;
/** How long a socket may be open without `connection_init`, and how often that is looked at. */
const INIT_TIMEOUT_MS = 3_000;
const INIT_CHECK_MS = 250;

type Closed = ReturnType<Greet>;

/** The WebSocket side of the server. */
export interface WebSockets {
  /** Takes an HTTP upgrade of a path and origin that were checked. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Sockets that are open. */
  connections(): Iterable<Connection>;
  /** Lets new operations on open sockets go by what the keys may do now. */
  refresh(principals: ReadonlyMap<string, Principal>): void;
  /** Closes the sockets of these principals with 4403. */
  end(principalIds: ReadonlySet<string>): void;
  close(): void;
}

/**
 * `graphql-transport-ws`: the connection by graphql-ws's own protocol machine, its operations past it, since the live room
 * serializes a result once, and each socket adds its operation's id.
 * @see https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
 */
export function createWebSockets(gateway: Gateway): WebSockets {
  const greet = createProtocol(gateway);
  /** With what tells graphql-ws that a socket is closed. */
  const connections = new Map<Connection, Closed>();
  const side: ServerSide = {
    turn: new Turn(),
    observe: gateway.observe,
    hearFirst: ({ session }, message) => session !== undefined && hearOfOperations(gateway, session, message),
    report: (error) => gateway.report(error, newId('req')),
    onClose,
  };
  const server = new WebSocketServer({
    noServer: true,
    WebSocket: ClientSocket,
    perMessageDeflate: false,
    // a client's messages in turns with those of others
    allowSynchronousEvents: false,
    clientTracking: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: (protocols) => handleProtocols(protocols),
  });
  const ping = setInterval(() => {
    for (const connection of connections.keys()) connection.ping();
  }, PING_EVERY_MS);
  ping.unref();
  /** Those that have not begun yet, oldest first, with when they opened. */
  const beginning = new Map<Connection, number>();
  const initCheck = setInterval(() => {
    for (const [connection, openedAt] of beginning) {
      const isLate = performance.now() - openedAt >= INIT_TIMEOUT_MS;
      if (!connection.isInitialized && !isLate) return;
      beginning.delete(connection);
      if (!connection.isInitialized)
        connection.close(CloseCode.ConnectionInitialisationTimeout, 'Connection initialisation timeout');
    }
  }, INIT_CHECK_MS);
  initCheck.unref();

  function open(socket: ClientSocket, raw: Duplex): void {
    const connection = new Connection({ socket, raw, side });
    beginning.set(connection, performance.now());
    connections.set(connection, greet(connection));
  }

  function onClose(connection: Connection, code: number, reason: string): void {
    const closed = connections.get(connection);
    connections.delete(connection);
    beginning.delete(connection);
    closed?.(code, reason).catch((error: unknown) => gateway.observe({ name: 'socket.failed', level: 'error', error }));
  }

  return {
    upgrade: (request, raw, head) => server.handleUpgrade(request, raw, head, (socket) => open(socket, raw)),
    connections: () => connections.keys(),
    refresh(principals) {
      for (const connection of connections.keys()) {
        const { principal } = connection;
        if (principal !== undefined) connection.principal = principals.get(principal.id) ?? principal;
      }
    },
    end(principalIds) {
      for (const connection of connections.keys()) {
        if (principalIds.has(connection.principal?.id ?? '')) connection.close(CloseCode.Forbidden, 'Forbidden');
      }
    },
    close() {
      clearInterval(ping);
      clearInterval(initCheck);
      for (const connection of connections.keys()) connection.terminate();
      server.close();
    },
  };
}
