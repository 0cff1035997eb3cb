import { makeServer, type Server } from 'graphql-ws';
import { type Connection, TRY_AGAIN_LATER } from './connection.ts';
import type { Gateway } from './gateway.ts';
import { endOf, Session } from './session.ts';

/** Tells graphql-ws of a socket that has opened; gives what tells it that the socket is closed. */
export type Greet = (connection: Connection) => (code: number, reason: string) => Promise<void>;

/** graphql-ws's own protocol machine for what a connection says of itself; its operations never come to it. */
export function createProtocol(gateway: Gateway): Greet {
  const machine = createMachine();
  return (connection) => {
    const session = new Session(gateway, connection);
    connection.session = session;
    return machine.opened(connection, session);
  };
}

function createMachine(): Server<Session> {
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
      // null passes graphql-ws's check, though its type does not say so
      if (payload && asksForRenewal(payload)) await answerRenewal(session, payload);
    },
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
