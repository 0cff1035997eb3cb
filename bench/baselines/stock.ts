import { once, setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionArgs } from 'graphql';
import type { ConnectionInitMessage, ServerOptions } from 'graphql-ws';
import { type Extra, useServer } from 'graphql-ws/use/ws';
import { createPubSub, createSchema, createYoga } from 'graphql-yoga';
import { WebSocketServer } from 'ws';
import { serveMethods } from '../../test/support/worker.ts';

/** The fields that the crowd selects. */
export interface StockEvent {
  readonly position: string;
  readonly [field: string]: unknown;
}

const TYPES = `
  type Query { ready: Boolean! }
  enum EventType { STOCK_CHANGED }
  input EventFilter { types: [EventType!] }
  interface Event {
    id: ID! position: String! cursor: String! name: String! occurredAt: String! subjectId: ID! subjectVersion: Int!
  }
  type StockChanged implements Event {
    id: ID! position: String! cursor: String! name: String! occurredAt: String! subjectId: ID! subjectVersion: Int!
    sku: String! stock: Int!
  }
  type Subscription { events(filter: EventFilter): Event! }
`;

/** Subscriptions of GraphQL Yoga over graphql-ws as their documentation has them: one `createPubSub`, one `useServer`. */
export function createStock() {
  const pubSub = createPubSub<{ events: [StockEvent] }>();
  const yoga = createYoga({
    graphiql: { subscriptionsProtocol: 'WS' },
    logging: false,
    schema: createSchema({
      typeDefs: TYPES,
      resolvers: {
        Event: { __resolveType: () => 'StockChanged' },
        Subscription: {
          events: { subscribe: () => pubSub.subscribe('events'), resolve: (event: StockEvent) => event },
        },
      },
    }),
  });
  let position = 0;

  return {
    /** @returns its URL */
    async listen(): Promise<string> {
      setMaxListeners(0); // it would warn of the eleventh subscriber
      const server = createServer(yoga);
      useServer(optionsFor(yoga), new WebSocketServer({ server, path: yoga.graphqlEndpoint }));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return `ws://127.0.0.1:${(server.address() as AddressInfo).port}${yoga.graphqlEndpoint}`; // an address, since it listens on TCP
    },
    /** Publishes so many events in one turn. */
    publish(event: StockEvent, events: number): void {
      for (let at = 0; at < events; at++) pubSub.publish('events', { ...event, position: String(++position) });
    },
  };
}

export type Stock = ReturnType<typeof createStock>;

/** What the documentation passes along as `rootValue`. */
interface Enveloped extends ExecutionArgs {
  readonly rootValue: {
    readonly execute: (args: ExecutionArgs) => never;
    readonly subscribe: (args: ExecutionArgs) => never;
  };
}

type Yoga = ReturnType<typeof createYoga>;

/** @see https://the-guild.dev/graphql/yoga-server/docs/features/subscriptions#graphql-over-websocket-protocol-via-graphql-ws */
function optionsFor(yoga: Yoga): ServerOptions<ConnectionInitMessage['payload'], Extra> {
  return {
    // both get what onSubscribe returns
    execute: (args) => (args as Enveloped).rootValue.execute(args),
    subscribe: (args) => (args as Enveloped).rootValue.subscribe(args),
    async onSubscribe(context, _id, params) {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...context,
        req: context.extra.request,
        socket: context.extra.socket,
        params,
      });
      const args = {
        schema,
        operationName: params.operationName,
        document: parse(params.query),
        variableValues: params.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      };
      const errors = validate(args.schema, args.document);
      return errors.length > 0 ? errors : args;
    },
  };
}

if (import.meta.main) serveMethods(createStock());
