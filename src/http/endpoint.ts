import type { IncomingMessage, ServerResponse } from 'node:http';
import { EngineError } from '../errors.ts';
import { admitStream } from './admission.ts';
import { bearerKey } from './authenticate.ts';
import { isAllowedOrigin } from './cors.ts';
import type { Caller } from './gateway.ts';
import { createGraphqlHttp } from './graphql.ts';
import { hangUpSignal } from './hang-up.ts';
import { type OperationRequest, readIdempotencyKey, readJsonBody, requestIdOf, toOperationRequest } from './request.ts';
import { accepts, acceptsJson, asksForPage, headerOf, queryOf } from './request-head.ts';
import type { HttpServerOptions } from './server.ts';
import { type SseStreams, serveSse } from './sse.ts';

/** Answers a request. @throws HttpFault, EngineError or a bug, before anything of the answer is sent */
export type Respond = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

type EndpointOptions = Pick<HttpServerOptions, 'schema' | 'gateway' | 'graphiql' | 'corsOrigins' | 'draining'>;

/**
 * `/graphql` but for its WebSockets: subscriptions, and what nobody wants in another form, as server-sent events into
 * `streams`; all else by yoga.
 */
export function createEndpoint(options: EndpointOptions, streams: SseStreams): Respond {
  const { gateway, graphiql, corsOrigins } = options;
  const yoga = createGraphqlHttp(options);

  async function serveByYoga(request: IncomingMessage, response: ServerResponse, caller?: Caller): Promise<void> {
    await yoga(request, response, caller === undefined ? {} : { caller });
  }

  return async (request, response) => {
    const requestId = requestIdOf(request);
    response.setHeader('x-request-id', requestId);
    // a page elsewhere can send a GET unasked, and every other method only after a preflight
    if (request.method === 'GET' && !isAllowedOrigin(request, corsOrigins))
      throw new EngineError('FORBIDDEN', 'this origin is not allowed; add it to CORS_ORIGINS');
    if (graphiql && asksForPage(request)) return serveByYoga(request, response);
    const principal = await gateway.keys.authenticate(bearerKey(request.headers.authorization));
    // yoga refuses other methods
    if (request.method !== 'GET' && request.method !== 'POST') return serveByYoga(request, response);
    const body = toOperationRequest(request.method === 'POST' ? await readJsonBody(request) : queryOf(request));
    const idempotencyKey = readIdempotencyKey(headerOf(request, 'idempotency-key'), body.extensions);
    const caller: Caller = { principal, requestId, idempotencyKey };
    const operation = accepts(request, 'text/event-stream') ? gateway.prepare(body, principal) : undefined;
    if (operation?.kind === 'subscription') {
      await admitStream(response, principal, options);
      return serveSse(gateway, { request, response, body, operation, caller }, streams);
    }
    const waiting: Caller = { ...caller, signal: hangUpSignal(response) };
    if (operation === undefined || acceptsJson(request)) return serveByYoga(ofYoga(request, body), response, waiting);
    return serveSse(gateway, { request, response, body, operation, caller: waiting }, streams);
  };
}

/** yoga takes the parsed body from the request. */
function ofYoga(request: IncomingMessage, body: OperationRequest): IncomingMessage {
  return Object.assign(request, { body });
}
