import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { GraphQLError } from 'graphql';
import { CloseCode, handleProtocols, makeServer, type Server } from 'graphql-ws';
import { type WebSocket, WebSocketServer } from 'ws';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import { authorizationOf, bearerKey } from './authenticate.ts';
import { Connection } from './connection.ts';
import type { Gateway, Operation } from './gateway.ts';
import { type OperationRequest, readIdempotencyKey, toOperationRequest } from './request.ts';
import { SilentIterator } from './silent-iterator.ts';

/** The largest message from a client, in bytes: a larger one closes with 1009. */
export const MAX_MESSAGE_BYTES = 100 * 1024;
/** Operations that one socket may hold, of any kind. */
const MAX_OPERATIONS = 100;
const INIT_TIMEOUT_MS = 3_000;
const PING_EVERY_MS = 12_000;

/** What graphql-ws keeps for a socket. */
interface Extra {
  readonly connection: Connection;
}

/** What stands in an operation's arguments for graphql-ws; documents and variables stay with the operation. */
interface OperationContext {
  readonly connection: Connection;
  readonly id: string;
  readonly request: OperationRequest;
  readonly operation: Operation;
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
}

/** The WebSocket side of the server. */
export interface WebSockets {
  /** Takes an HTTP upgrade of a path and origin that were checked. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Sockets that are open. */
  connections(): ReadonlySet<Connection>;
  /** Lets new operations on open sockets go by what the keys may do now. */
  refresh(principals: ReadonlyMap<string, Principal>): void;
  /** Closes the sockets of a principal with 4403. */
  end(principalId: string): void;
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
    const connection = new Connection({ socket, raw, observe: gateway.observe });
    connections.add(connection);
    const extra: Extra = { connection };
    const closed = protocol.opened(connection.adapter, extra);
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
    end(principalId) {
      for (const connection of connections) {
        if (connection.principal?.id === principalId) connection.close(CloseCode.Forbidden, 'Forbidden');
      }
    },
    close() {
      clearInterval(ping);
      for (const connection of connections) connection.terminate();
      server.close();
    },
  };
}

function createProtocol(gateway: Gateway): Server<Extra> {
  return makeServer<Record<string, unknown>, Extra>({
    connectionInitWaitTimeout: INIT_TIMEOUT_MS,
    async onConnect({ connectionParams, extra }) {
      try {
        const principal = await gateway.keys.authenticate(bearerKey(authorizationOf(connectionParams)));
        extra.connection.principal = principal;
        return true;
      } catch (error) {
        if (error instanceof EngineError && error.code === 'UNAUTHENTICATED') return false;
        throw error;
      }
    },
    onSubscribe({ extra, subscriptions }, id, payload) {
      const requestId = newId('req');
      try {
        // this one is counted already
        if (Object.keys(subscriptions).length > MAX_OPERATIONS)
          throw new EngineError(
            'RATE_LIMITED',
            `a socket holds at most ${MAX_OPERATIONS} operations; open another socket`,
          );
        return toArguments(gateway, extra, { id, payload, requestId }) as never; // graphql-ws passes it through to subscribe and execute below
      } catch (error) {
        return gateway.report(error, requestId);
      }
    },
    subscribe: (args) => watch(gateway, contextOf(args)),
    execute: (args) => {
      const { operation, request, principal, requestId, idempotencyKey } = contextOf(args);
      return gateway.run(operation, request, { principal, requestId, idempotencyKey }) as never;
    },
    onError: (_ctx, _id, _payload, errors) => errors.map((error) => revealCause(gateway, error).toJSON()),
  });
}

interface Subscribing {
  readonly id: string;
  readonly payload: unknown;
  readonly requestId: string;
}

function toArguments(gateway: Gateway, { connection }: Extra, { id, payload, requestId }: Subscribing) {
  const { principal } = connection;
  if (principal === undefined) throw new EngineError('UNAUTHENTICATED', 'send connection_init with an API key first');
  const request = toOperationRequest(payload);
  const operation = gateway.prepare(request, principal);
  const idempotencyKey = readIdempotencyKey(undefined, request.extensions);
  const contextValue: OperationContext = { connection, id, request, operation, principal, requestId, idempotencyKey };
  return { document: operation.document, operationName: request.operationName, contextValue };
}

function contextOf(args: { readonly contextValue?: unknown }): OperationContext {
  return args.contextValue as OperationContext; // what toArguments put there
}

/** The live room feeds the socket; graphql-ws only learns when the stream ends. */
function watch(
  gateway: Gateway,
  { connection, id, request, operation, principal, requestId }: OperationContext,
): AsyncGenerator<never> {
  return new SilentIterator(async (end) => {
    const { sink, forget } = connection.sinkFor(id, end);
    try {
      const caller = { principal, requestId, idempotencyKey: undefined };
      const detach = await gateway.watch(operation, request, caller, { sink });
      return () => {
        forget();
        detach();
      };
    } catch (error) {
      forget();
      throw error;
    }
  });
}

/** graphql-ws wraps what the iterator rejected with; the gateway knows what of it a client may see. */
function revealCause(gateway: Gateway, error: { readonly message: string }): GraphQLError {
  const inner = error instanceof GraphQLError && error.extensions.code === undefined ? error.cause : undefined;
  if (inner !== undefined) return gateway.report(inner, newId('req'))[0] ?? new GraphQLError('internal error');
  return error instanceof GraphQLError ? error : new GraphQLError(error.message);
}
