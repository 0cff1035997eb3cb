import { renderGraphiQL } from '@graphql-yoga/render-graphiql';
import { type ExecutionResult, GraphQLError, type GraphQLSchema } from 'graphql';
import { createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga';
import type { Caller, Gateway } from './gateway.ts';
import { toOperationRequest } from './request.ts';
import { statusOf } from './status.ts';

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
      const result = await answer(gateway, { params, method: request.method, caller });
      setResult(withStatus(result, request.headers.get('accept') ?? ''));
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

/**
 * Gives the errors of a request that could not be run their status, for yoga: 4xx or 5xx, but 200 for those who ask for the
 * old media type `application/json` by name, as its clients expect.
 * @see https://graphql.github.io/graphql-over-http/draft/#sec-Status-Codes
 */
function withStatus(result: ExecutionResult, accept: string): ExecutionResult {
  if (result.errors === undefined || result.data !== undefined) return result;
  const spec = accept.includes('application/json');
  const errors = result.errors.map((error) => {
    const http = error.extensions.http ?? { status: statusOf(error.extensions.code), spec };
    return new GraphQLError(error.message, {
      ...(error.nodes ? { nodes: error.nodes } : {}),
      ...(error.source ? { source: error.source } : {}),
      ...(error.positions ? { positions: error.positions } : {}),
      extensions: { ...error.extensions, http },
    });
  });
  return { ...result, errors };
}

function fault(status: number, message: string): ExecutionResult {
  const headers = status === 405 ? { allow: 'POST' } : {};
  return { errors: [new GraphQLError(message, { extensions: { code: 'BAD_INPUT', http: { status, headers } } })] };
}
