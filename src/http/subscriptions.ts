import { CloseCode, type Message, MessageType, validateMessage } from 'graphql-ws';
import { EngineError } from '../errors.ts';
import { newId } from '../runtime/id.ts';
import type { Gateway, Operation } from './gateway.ts';
import { type OperationRequest, toOperationRequest } from './request.ts';
import type { Session } from './session.ts';

/** Operations that one socket may hold, of any kind. */
const MAX_OPERATIONS = 100;

/**
 * Hears what a client says of its subscriptions; false for all else, which is graphql-ws's: what is no message, what comes
 * before the acknowledgement, queries and mutations.
 *
 * graphql-ws would hold a suspended function, an iterator and its promises for each subscription: 1.4 of the 6.0 KB of a socket
 * (2026-11-22). Nothing of them is of use, since a result is serialized once for all who get it.
 * @see https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
 */
export function hearOfSubscriptions(gateway: Gateway, session: Session, message: object): boolean {
  const said = readMessage(message);
  if (said?.type === MessageType.Complete) return session.connection.leaveStream(said.id);
  if (said?.type !== MessageType.Subscribe || session.connection.principal === undefined) return false;
  if (session.runs(said.id)) return false;
  if (!session.connection.hasStream(said.id)) return subscribe(gateway, session, said);
  session.connection.close(CloseCode.SubscriberAlreadyExists, `Subscriber for ${said.id} already exists`);
  return true;
}

/** Undefined for what graphql-ws refuses. */
function readMessage(message: object): Message | undefined {
  try {
    return validateMessage(message);
  } catch {
    return undefined;
  }
}

interface Subscribe {
  readonly id: string;
  readonly payload: unknown;
}

/** Tells the client what is wrong with an operation of any kind; false for one that is sound, and no subscription. */
function subscribe(gateway: Gateway, session: Session, { id, payload }: Subscribe): boolean {
  const requestId = newId('req');
  try {
    requireRoom(session);
    const request = toOperationRequest(payload);
    const operation = gateway.prepare(request, session.requirePrincipal());
    if (operation.kind !== 'subscription') return false;
    open(gateway, session, { id, request, operation, requestId });
  } catch (error) {
    session.connection.sendErrors(id, gateway.report(error, requestId));
  }
  return true;
}

function requireRoom({ operations }: Session): void {
  if (operations >= MAX_OPERATIONS)
    throw new EngineError('RATE_LIMITED', `a socket holds at most ${MAX_OPERATIONS} operations; open another socket`);
}

interface Opening {
  readonly id: string;
  readonly request: OperationRequest;
  readonly operation: Operation;
  readonly requestId: string;
}

function open(gateway: Gateway, session: Session, { id, request, operation, requestId }: Opening): void {
  const caller = { principal: session.requirePrincipal(), requestId, idempotencyKey: undefined };
  const stream = session.connection.openStream(id);
  gateway.watch(operation, request, caller, { sink: stream, owner: session }).then(
    (detach) => stream.attach(detach),
    (error: unknown) => stream.end(error),
  );
}
