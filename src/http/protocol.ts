import { GraphQLError } from 'graphql';
import { makeServer, type Server } from 'graphql-ws';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import { authorizationOf, bearerKey } from './authenticate.ts';
import type { Connection } from './connection.ts';
import type { Gateway, Operation } from './gateway.ts';
import { type OperationRequest, readIdempotencyKey, toOperationRequest } from './request.ts';
import { SilentIterator } from './silent-iterator.ts';

/** Operations that one socket may hold, of any kind. */
const MAX_OPERATIONS = 100;
const INIT_TIMEOUT_MS = 3_000;

/** What graphql-ws keeps for a socket. */
export interface Extra {
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

/** graphql-ws's own protocol machine, with the gateway behind it. */
export function createProtocol(gateway: Gateway): Server<Extra> {
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
