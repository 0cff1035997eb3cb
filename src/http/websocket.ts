import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, handleProtocols } from 'graphql-ws';
import { WebSocketServer } from 'ws';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import { ClientSocket, Connection, type ServerSide } from './connection.ts';
import type { Gateway } from './gateway.ts';
import { createProtocol } from './protocol.ts';
import { Turn } from './send-queue.ts';
import { hearOfSubscriptions } from './subscriptions.ts';

/** The largest message from a client, in bytes: a larger one closes with 1009. */
export const MAX_MESSAGE_BYTES = 100 * 1024;
const PING_EVERY_MS = 12_000;
/** How long a socket may be open without `connection_init`, and how often that is looked at. */
const INIT_TIMEOUT_MS = 3_000;
const INIT_CHECK_MS = 250;

type Closed = ReturnType<ReturnType<typeof createProtocol>['opened']>;

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
 * `graphql-transport-ws` by graphql-ws's own protocol machine. Only subscriptions pass it by: the live room serializes a
 * result once, and each socket adds its operation's id.
 * @see https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
 */
export function createWebSockets(gateway: Gateway): WebSockets {
  const protocol = createProtocol(gateway);
  /** With what tells graphql-ws that a socket is closed. */
  const connections = new Map<Connection, Closed>();
  const side: ServerSide = {
    turn: new Turn(),
    observe: gateway.observe,
    hearFirst: ({ session }, message) => session !== undefined && hearOfSubscriptions(gateway, session, message),
    report: (error) => gateway.report(error, newId('req')),
    onClose,
  };
  const server = new WebSocketServer({
    noServer: true,
    WebSocket: ClientSocket,
    perMessageDeflate: false,
    // "complete" then "subscribe" of one id in one chunk would otherwise end the new operation
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
    connections.set(connection, protocol.opened(connection, { connection }));
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
