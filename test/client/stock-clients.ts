import { ApolloClient, type ApolloLink, gql, InMemoryCache } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { fetchExchange, subscriptionExchange, createClient as urqlClient } from '@urql/core';
import { createClient as graphqlSseClient } from 'graphql-sse';
import type { Client, Sink } from 'graphql-ws';
import { createFanfareClient, createFanfareSseClient } from '#client';
import { stockClient } from '../support/live-client.ts';

/** What a test asks of any client. */
export interface AnyClient {
  /** A query or mutation. @throws whatever the client says of errors */
  ask(query: string): Promise<Data>;
  /** Gives each result's data. */
  subscribe(query: string, onData: (data: Data) => void): () => void;
  close(): void | Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
type Data = any;

interface Place {
  readonly url: string;
  readonly wsUrl: string;
  readonly key: string;
}

/** Stock clients that never give up, or the test would be one of their patience. */
const STUBBORN = { retryAttempts: 1_000, shouldRetry: () => true, retryWait: () => wait(20) };
const stockSocket = ({ wsUrl, key }: Place) => stockClient(wsUrl, key, STUBBORN);
const fanfare = (place: Place) => createFanfareClient({ ...place, random: () => 0.1 });
const fanfareSse = (place: Place) => createFanfareSseClient({ ...place, random: () => 0.1 });

/** Each client as its own documentation sets it up. */
export const CLIENTS: Readonly<Record<string, (place: Place) => AnyClient>> = {
  'graphql-ws': (place) => bare(stockSocket(place)),
  'graphql-sse': (place) => sse(place),
  'urql over graphql-ws': (place) => urql(place, stockSocket(place), false),
  'urql over ours, for all operations': (place) => urql(place, fanfare(place), true),
  'urql over ours by SSE': (place) => urql(place, fanfareSse(place), false),
  'Apollo over graphql-ws': (place) => apollo(stockSocket(place)),
  'Apollo over ours': (place) => apollo(fanfare(place)),
  'Apollo over ours by SSE': (place) => apollo(fanfareSse(place)),
  ours: (place) => bare(fanfare(place)),
  'ours by SSE': (place) => bare(fanfareSse(place)),
};

function bare(client: Client): AnyClient {
  return {
    ask: (query) => firstData(client.iterate({ query })),
    subscribe: (query, onData) =>
      client.subscribe({ query }, { next: ({ data }) => onData(data), error: () => {}, complete: () => {} }),
    close: () => client.dispose(),
  };
}

function sse({ url, key }: Place): AnyClient {
  const options = { url, headers: { authorization: `Bearer ${key}` } };
  // of its own: one that never gives up would not do so on a query that the server refuses
  const asking = graphqlSseClient({ ...options, retryAttempts: 0 });
  const client = graphqlSseClient({ ...options, retryAttempts: 1_000, retry: () => wait(20) });
  return {
    ask: (query) => firstData(asking.iterate({ query })),
    subscribe: (query, onData) =>
      client.subscribe({ query }, { next: ({ data }) => onData(data), error: () => {}, complete: () => {} }),
    close: () => client.dispose(),
  };
}

async function firstData(results: AsyncIterable<{ data?: Data; errors?: unknown }>): Promise<Data> {
  for await (const { data, errors } of results) {
    if (errors !== undefined) throw errors;
    return data;
  }
  throw new Error('no answer');
}

function urql({ url, key }: Place, client: Client, enableAllOperations: boolean): AnyClient {
  const outer = urqlClient({
    url,
    preferGetMethod: false,
    fetchOptions: { headers: { authorization: `Bearer ${key}` } },
    exchanges: [
      subscriptionExchange({
        enableAllOperations,
        forwardSubscription: ({ query = '', variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: client.subscribe({ query, variables: { ...variables } }, sink as Sink),
          }),
        }),
      }),
      fetchExchange,
    ],
  });
  return {
    async ask(query) {
      const send = query.startsWith('mutation') ? outer.mutation(query, {}) : outer.query(query, {});
      const { data, error } = await send.toPromise();
      if (error !== undefined) throw error;
      return data;
    },
    subscribe: (query, onData) =>
      outer.subscription(query, {}).subscribe(({ data }) => data && onData(data)).unsubscribe,
    close: () => client.dispose(),
  };
}

function apollo(client: Client): AnyClient {
  const link: ApolloLink = new GraphQLWsLink(client);
  const outer = new ApolloClient({
    link,
    cache: new InMemoryCache(),
    defaultOptions: { query: { fetchPolicy: 'no-cache' } },
  });
  return {
    async ask(query) {
      const document = gql(query);
      const { data } = query.startsWith('mutation')
        ? await outer.mutate({ mutation: document })
        : await outer.query({ query: document });
      return data;
    },
    subscribe(query, onData) {
      const subscription = outer.subscribe({ query: gql(query) }).subscribe(({ data }) => data && onData(data));
      return () => subscription.unsubscribe();
    },
    async close() {
      outer.stop();
      await client.dispose();
    },
  };
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
