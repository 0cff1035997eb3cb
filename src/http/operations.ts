import { CloseCode, type Message, MessageType, validateMessage } from 'graphql-ws';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { newId } from '../runtime/id.ts';
import type { Caller, Gateway, Operation } from './gateway.ts';
import { type OperationRequest, readIdempotencyKey, toOperationRequest } from './request.ts';
import type { Session } from './session.ts';

/** Operations that one socket may hold, and calls that it may leave unanswered. */
const MAX_OPERATIONS = 100;

/**
 * Hears what a client says of its operations; false for all else, which is graphql-ws's: what is no message, what comes
 * before the acknowledgement, pings.
 *
 * graphql-ws would hold a suspended function, an iterator and its promises for each subscription: a socket with one took 7.5 KiB
 * of memory, and takes 6.2 without (2026-11-22). Nothing of them is of use, since a result is serialized once for all who get it. And a query that was
 * completed and whose id was used again would answer under that id, in the other's place.
 * @see https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
 */
export function hearOfOperations(gateway: Gateway, session: Session, message: object): boolean {
  const { connection } = session;
  if (connection.principal === undefined) return false;
  const said = readMessage(message);
  if (said?.type === MessageType.Subscribe) subscribe(gateway, session, said, connection.principal);
  else if (said?.type === MessageType.Complete) connection.complete(said.id);
  else return false;
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

function subscribe(gateway: Gateway, session: Session, { id, payload }: Subscribe, principal: Principal): void {
  const { connection } = session;
  if (connection.holds(id)) {
    connection.close(CloseCode.SubscriberAlreadyExists, `Subscriber for ${id} already exists`);
    return;
  }
  const requestId = newId('req');
  try {
    if (connection.operations >= MAX_OPERATIONS || connection.calls >= MAX_OPERATIONS)
      throw new EngineError('RATE_LIMITED', `a socket holds at most ${MAX_OPERATIONS} operations; open another socket`);
    const request = toOperationRequest(payload);
    const operation = gateway.prepare(request, principal);
    const idempotencyKey = readIdempotencyKey(undefined, request.extensions);
    const asked = { id, request, operation, caller: { principal, requestId, idempotencyKey } };
    if (operation.kind === 'subscription') watch(gateway, session, asked);
    else void call(gateway, session, asked); // never rejects
  } catch (error) {
    connection.sendErrors(id, gateway.report(error, requestId));
  }
}

interface Asked {
  readonly id: string;
  readonly request: OperationRequest;
  readonly operation: Operation;
  readonly caller: Caller;
}

function watch(gateway: Gateway, session: Session, { id, request, operation, caller }: Asked): void {
  const { connection } = session;
  const stream = connection.openStream(id);
  gateway.watch(operation, request, caller, { sink: stream, owner: session }).then(
    (detach) => stream.attach(detach),
    (error: unknown) => {
      if (connection.drop(stream)) connection.sendErrors(id, gateway.report(error, caller.requestId));
    },
  );
}

/** A query or mutation. A socket with one under way is not closed by the drain before its answer is on the way. */
async function call(gateway: Gateway, session: Session, { id, request, operation, caller }: Asked): Promise<void> {
  const { connection } = session;
  const waiting = connection.openCall(id);
  connection.calls++;
  const result = await gateway.run(operation, request, { ...caller, signal: waiting.signal });
  connection.calls--;
  if (!connection.drop(waiting)) return;
  try {
    connection.answer(id, result);
  } catch (error) {
    connection.sendErrors(id, gateway.report(error, caller.requestId));
  }
}
