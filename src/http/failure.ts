import type { ServerResponse } from 'node:http';
import type { Gateway } from './gateway.ts';
import { HttpFault, requestIdOf } from './request.ts';
import { statusOf } from './status.ts';

/** Of refusals that may be asked again soon. */
const PASSING: ReadonlySet<number> = new Set([429, 503]);

/** Answers what went wrong before GraphQL could, as a GraphQL error all the same; an answer that has begun is cut off. */
export function answerFailure(gateway: Gateway, error: unknown, response: ServerResponse): void {
  if (response.headersSent) return void response.destroy();
  const { req: request } = response;
  const requestId = String(response.getHeader('x-request-id') ?? requestIdOf(request));
  const { status, errors } = describeFailure(gateway, error, requestId);
  if (!request.complete) response.setHeader('connection', 'close');
  if (PASSING.has(status)) response.setHeader('retry-after', '1');
  response.setHeader('content-type', 'application/json; charset=utf-8');
  if (status === 405) response.setHeader('allow', 'POST');
  if (status === 401) response.setHeader('www-authenticate', 'Bearer');
  response.writeHead(status).end(JSON.stringify({ errors }));
}

function describeFailure(gateway: Gateway, error: unknown, requestId: string) {
  if (error instanceof HttpFault)
    return { status: error.status, errors: [{ message: error.message, extensions: { code: error.code } }] };
  const errors = gateway.report(error, requestId);
  return { status: statusOf(errors[0]?.extensions.code), errors };
}
