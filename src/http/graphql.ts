import { renderGraphiQL } from '@graphql-yoga/render-graphiql';
import { type ExecutionResult, GraphQLError, type GraphQLSchema } from 'graphql';
import { createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga';
import type { Caller, Gateway } from './gateway.ts';
import { toOperationRequest } from './request.ts';

/** What the server hands to yoga with each request; only the page of GraphiQL is served without a caller. */
export interface HttpContext {
  readonly caller?: Caller;
}

export interface YogaOptions {
  readonly schema: GraphQLSchema;
  readonly gateway: Gateway;
  /** Serves GraphiQL, with assets from the package, to a browser. */
  readonly graphiql: boolean;
}

/**
 * GraphQL over HTTP by yoga: content negotiation, GET, status codes, GraphiQL. What is asked is answered by the gateway,
 * the same as on the other transports.
 * @see https://graphql.github.io/graphql-over-http/draft/
 */
export function createGraphqlHttp({ schema, gateway, graphiql }: YogaOptions): YogaServerInstance<HttpContext, object> {
  return createYoga<HttpContext>({
    schema,
    graphqlEndpoint: '/graphql',
    graphiql: graphiql
      ? { title: 'Fanfare', headers: '{ "Authorization": "Bearer ff_…" }', subscriptionsProtocol: 'WS' }
      : false,
    renderGraphiQL,
    landingPage: false,
    cors: false, // the server has its own, which never reflects an origin
    batching: false,
    multipart: false,
    logging: false,
    parserAndValidationCache: false,
    maskedErrors: false, // the gateway's errors are fit for clients already
    plugins: [answerByGateway(gateway)],
  });
}

function answerByGateway(gateway: Gateway): Plugin<object, HttpContext> {
  return {
    async onParams({ params, request, setResult, context }) {
      const { caller } = context as HttpContext;
      if (caller === undefined) throw new Error('the server let a request pass without a caller');
      setResult(await answer(gateway, { params, method: request.method, caller }));
    },
  };
}

interface Question {
  readonly params: unknown;
  readonly method: string;
  readonly caller: Caller;
}

async function answer(gateway: Gateway, { params, method, caller }: Question): Promise<ExecutionResult> {
  try {
    const request = toOperationRequest(params);
    const operation = gateway.prepare(request, caller.principal);
    if (operation.kind === 'mutation' && method === 'GET') return fault(405, 'a mutation needs POST');
    if (operation.kind === 'subscription')
      return fault(400, 'a subscription needs a WebSocket or "Accept: text/event-stream"');
    return await gateway.run(operation, request, caller);
  } catch (error) {
    return { errors: gateway.report(error, caller.requestId) };
  }
}

function fault(status: number, message: string): ExecutionResult {
  const headers = status === 405 ? { allow: 'POST' } : {};
  return { errors: [new GraphQLError(message, { extensions: { code: 'BAD_INPUT', http: { status, headers } } })] };
}
