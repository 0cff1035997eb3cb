import type { ExecutionResult } from 'graphql';
import { makeServer, type Server } from 'graphql-ws';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import type { Connection } from './connection.ts';
import type { Gateway, Operation } from './gateway.ts';
import { type OperationRequest, readIdempotencyKey, toOperationRequest } from './request.ts';
import { endOf, Session } from './session.ts';

/** Closes a socket of a principal that has too many: stock clients come back later. */
const TRY_AGAIN_LATER = 1013;

/** What comes with a socket. */
export interface Extra {
  readonly connection: Connection;
}

/** What graphql-ws is given to hand on to `execute`. */
interface OperationContext {
  readonly session: Session;
  readonly request: OperationRequest;
  readonly operation: Operation;
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
}

/** graphql-ws's own protocol machine, with the gateway behind it; subscriptions never come to it. */
export function createProtocol(gateway: Gateway): Server<Extra> {
  const machine = createMachine(gateway);
  return {
    opened(socket, { connection }) {
      const session = new Session(gateway, connection);
      connection.session = session;
      return machine.opened(socket, session);
    },
  };
}

function createMachine(gateway: Gateway): Server<Session> {
  return makeServer<Record<string, unknown>, Session>({
    // a timer for each socket is kept until it closes; one sweep does for all
    connectionInitWaitTimeout: 0,
    async onConnect(context) {
      const { connectionParams = {}, extra: session } = context;
      session.calls = context;
      session.connection.isInitialized = true;
      const opening = await session.begin({ ...connectionParams });
      // graphql-ws keeps them as long as the socket is open: no key stays in memory
      for (const name of Object.keys(connectionParams)) Reflect.set(connectionParams, name, undefined);
      if (opening === 'full') session.connection.close(TRY_AGAIN_LATER, 'Too many connections');
      if (opening === 'full' || opening === 'refused') return false;
      const expiresAt = endOf(opening);
      return expiresAt === undefined ? true : { expiresAt };
    },
    onClose: ({ extra: session }) => session.end(),
    async onPing({ extra: session }, payload) {
      if (payload !== undefined && asksForRenewal(payload)) await answerRenewal(session, payload);
    },
    onSubscribe({ extra: session }, _id, payload) {
      const requestId = newId('req');
      try {
        return toArguments(gateway, session, { payload, requestId }) as never; // graphql-ws passes it through to execute below
      } catch (error) {
        return gateway.report(error, requestId);
      }
    },
    execute: ({ contextValue }) => run(gateway, contextValue as OperationContext) as never, // what toArguments gave; graphql-ws types a result as its own graphql's
  });
}

function asksForRenewal(payload: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(payload).some((name) => name.toLowerCase() === 'authorization');
}

/** graphql-ws answers with the ping's payload: it becomes the answer, so that a key never goes back. */
async function answerRenewal(session: Session, payload: Record<string, unknown>): Promise<void> {
  const answer = await session.renew({ ...payload });
  for (const name of Object.keys(payload)) Reflect.deleteProperty(payload, name);
  payload.authorization = answer;
}

interface Call {
  readonly payload: unknown;
  readonly requestId: string;
}

function toArguments(gateway: Gateway, session: Session, { payload, requestId }: Call) {
  const principal = session.requirePrincipal();
  const request = toOperationRequest(payload);
  const operation = gateway.prepare(request, principal);
  const idempotencyKey = readIdempotencyKey(undefined, request.extensions);
  const contextValue: OperationContext = { session, request, operation, principal, requestId, idempotencyKey };
  return { document: operation.document, operationName: request.operationName, contextValue };
}

/** A query or mutation. A socket with one under way is not closed by the drain before its answer is on the way. */
async function run(
  gateway: Gateway,
  { session, operation, request, principal, requestId, idempotencyKey }: OperationContext,
): Promise<ExecutionResult> {
  session.connection.calls++;
  try {
    return await gateway.run(operation, request, { principal, requestId, idempotencyKey, signal: session.gone });
  } finally {
    session.connection.calls--;
  }
}
