import { type DocumentNode, type ExecutionResult, GraphQLError } from 'graphql';
import { makeServer, type Server } from 'graphql-ws';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import type { Connection } from './connection.ts';
import type { Gateway, Operation } from './gateway.ts';
import { type OperationRequest, readIdempotencyKey, toOperationRequest } from './request.ts';
import { endOf, Session } from './session.ts';
import { type Attachment, type Ending, SilentIterator } from './silent-iterator.ts';

/** Operations that one socket may hold, of any kind. */
const MAX_OPERATIONS = 100;

/** Closes a socket of a principal that has too many: stock clients come back later. */
const TRY_AGAIN_LATER = 1013;

/** What comes with a socket. */
export interface Extra {
  readonly connection: Connection;
}

/** What graphql-ws is given to hand on to `subscribe` or `execute`; documents and variables stay with the operation. */
interface OperationContext {
  readonly session: Session;
  readonly id: string;
  readonly request: OperationRequest;
  readonly operation: Operation;
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
}

/** graphql-ws's own protocol machine, with the gateway behind it. */
export function createProtocol(gateway: Gateway): Server<Extra> {
  const machine = createMachine(gateway);
  return { opened: (socket, { connection }) => machine.opened(socket, new Session(gateway, connection)) };
}

function createMachine(gateway: Gateway): Server<Session> {
  return makeServer<Record<string, unknown>, Session>({
    // a timer for each socket is kept until it closes; one sweep does for all
    connectionInitWaitTimeout: 0,
    async onConnect({ connectionParams = {}, extra: session }) {
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
    onSubscribe({ extra: session, subscriptions }, id, payload) {
      const requestId = newId('req');
      try {
        // this one is counted already
        if (Object.keys(subscriptions).length > MAX_OPERATIONS)
          throw new EngineError(
            'RATE_LIMITED',
            `a socket holds at most ${MAX_OPERATIONS} operations; open another socket`,
          );
        return toArguments(gateway, session, { id, payload, requestId }) as never; // graphql-ws passes it through to subscribe and execute below
      } catch (error) {
        return gateway.report(error, requestId);
      }
    },
    subscribe: (args) => watch(gateway, takeContext(args)),
    execute: (args) => run(gateway, takeContext(args)) as never, // graphql-ws types a result as its own graphql's
    onError: (_ctx, _id, _payload, errors) => errors.map((error) => revealCause(gateway, error).toJSON()),
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

interface Subscribing {
  readonly id: string;
  readonly payload: unknown;
  readonly requestId: string;
}

function toArguments(gateway: Gateway, session: Session, { id, payload, requestId }: Subscribing) {
  const principal = session.requirePrincipal();
  const request = toOperationRequest(payload);
  const operation = gateway.prepare(request, principal);
  shareText(payload, operation.document);
  const idempotencyKey = readIdempotencyKey(undefined, request.extensions);
  const context: OperationContext = { session, id, request, operation, principal, requestId, idempotencyKey };
  const contextValue: Handover = { context };
  return { document: operation.document, operationName: request.operationName, contextValue };
}

/** graphql-ws keeps the message as long as the operation runs: its text becomes that of the document, which many have. */
function shareText(payload: unknown, { loc }: DocumentNode): void {
  const message = payload as { query: string }; // toOperationRequest has read it
  if (loc !== undefined && loc.source.body === message.query) message.query = loc.source.body;
}

/** graphql-ws keeps an operation's arguments as long as it runs: what they hold is taken out of them. */
interface Handover {
  context: OperationContext | undefined;
}

function takeContext(args: { readonly contextValue?: unknown }): OperationContext {
  const handover = args.contextValue as Handover; // what toArguments put there
  const { context } = handover;
  if (context === undefined) throw new Error('the context of an operation is taken once');
  handover.context = undefined;
  return context;
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

/** The live room feeds the socket; graphql-ws only learns when the stream ends. */
function watch(gateway: Gateway, context: OperationContext): AsyncGenerator<never> {
  return new SilentIterator((ending) => attach(gateway, context, ending));
}

async function attach(
  gateway: Gateway,
  { session, id, request, operation, principal, requestId }: OperationContext,
  ending: Ending,
): Promise<Attachment> {
  const stream = session.connection.openStream(id, ending);
  try {
    const caller = { principal, requestId, idempotencyKey: undefined };
    stream.detach = await gateway.watch(operation, request, caller, { sink: stream, owner: session });
    return stream;
  } catch (error) {
    stream.release();
    throw error;
  }
}

/** graphql-ws wraps what the iterator rejected with; the gateway knows what of it a client may see. */
function revealCause(gateway: Gateway, error: { readonly message: string }): GraphQLError {
  const inner = error instanceof GraphQLError && error.extensions.code === undefined ? error.cause : undefined;
  if (inner !== undefined) return gateway.report(inner, newId('req'))[0] ?? new GraphQLError('internal error');
  return error instanceof GraphQLError ? error : new GraphQLError(error.message);
}
