import { type ExecutionResult, GraphQLError } from 'graphql';
import { isDatabaseGone, sqlState } from '../database/faults.ts';
import { EngineError } from '../errors.ts';
import type { Observe } from '../runtime/observe.ts';

export interface ErrorReport {
  readonly requestId: string;
  readonly observe: Observe;
}

/**
 * What a client is told of an error: an `EngineError` with its code, a fault of the request as BAD_INPUT or with the code
 * that it has, a lost database as UNAVAILABLE; anything else only as INTERNAL with the request's id, and reported.
 */
export function toClientError(error: unknown, report: ErrorReport): GraphQLError {
  const place = error instanceof GraphQLError ? placeOf(error) : {};
  const cause = rootCause(error);
  if (cause instanceof EngineError) {
    return new GraphQLError(cause.message, { ...place, extensions: { ...cause.details, code: cause.code } });
  }
  if (cause instanceof GraphQLError && !isFaultOfOutput(error, cause)) {
    return new GraphQLError(cause.message, { ...place, extensions: { code: 'BAD_INPUT', ...cause.extensions } });
  }
  if (isDatabaseGone(cause)) {
    report.observe({ name: 'request.failed', level: 'warn', request_id: report.requestId, error: cause });
    return new GraphQLError('the database can not be reached; try again', {
      ...place,
      extensions: { code: 'UNAVAILABLE' },
    });
  }
  if (UNSTORABLE.has(sqlState(cause) ?? '')) {
    return new GraphQLError('a value can not be stored: text with U+0000, or a moment or number out of range', {
      ...place,
      extensions: { code: 'BAD_INPUT' },
    });
  }
  if (sqlState(cause) === '57014') {
    return new GraphQLError('the request took too long', { ...place, extensions: { code: 'TIMEOUT' } });
  }
  report.observe({ name: 'request.failed', level: 'error', request_id: report.requestId, error: cause });
  return new GraphQLError(`internal error; tell the operator this request id: ${report.requestId}`, {
    ...place,
    extensions: { code: 'INTERNAL' },
  });
}

/** SQLSTATE of values that Postgres has no place for: bad characters, bad representation, moments out of range. */
const UNSTORABLE: ReadonlySet<string> = new Set(['22021', '22P02', '22P05', '22003', '22007', '22008', '22009']);

/** A result whose errors clients may see; the same object if it has none. */
export function toClientResult(result: ExecutionResult, report: ErrorReport): ExecutionResult {
  return result.errors === undefined
    ? result
    : { ...result, errors: result.errors.map((error) => toClientError(error, report)) };
}

/**
 * GraphQL wraps what a resolver or a scalar throws, sometimes more than once. A TypeError by which a scalar refuses its input
 * is the client's affair and stays wrapped; one that a field threw is wrapped with the field's path, and is a bug.
 */
function rootCause(error: unknown): unknown {
  let cause = error;
  while (cause instanceof GraphQLError) {
    const inner: unknown = cause.originalError ?? cause.cause;
    if (inner === undefined || inner === null) return cause;
    if (inner instanceof TypeError && cause.path === undefined) return cause;
    cause = inner;
  }
  return cause;
}

/** A field gave what its type can't represent: `coerceOutputValue` throws this without a place, the executor adds the path. */
function isFaultOfOutput(error: unknown, cause: GraphQLError): boolean {
  const isOfField = error instanceof GraphQLError && error.path !== undefined;
  return isOfField && cause.nodes === undefined && cause.extensions.code === undefined;
}

function placeOf({ nodes, source, positions, path }: GraphQLError) {
  return {
    ...(nodes ? { nodes } : {}),
    ...(source ? { source } : {}),
    ...(positions ? { positions } : {}),
    ...(path ? { path } : {}),
  };
}
