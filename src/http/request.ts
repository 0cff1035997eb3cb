import type { IncomingMessage } from 'node:http';
import { EngineError } from '../errors.ts';
import { newId } from '../runtime/id.ts';

/** A GraphQL request as it came, over any transport. */
export interface OperationRequest {
  readonly query: string;
  readonly operationName: string | undefined;
  readonly variables: Readonly<Record<string, unknown>> | undefined;
  readonly extensions: Readonly<Record<string, unknown>> | undefined;
}

/** The largest request body, in bytes. */
export const MAX_BODY_BYTES = 256 * 1024;
const MAX_JSON_DEPTH = 32;
/** JSON is UTF-8; a parameter that says so is accepted, another charset is not. */
const JSON_TYPE = /^application\/json *(;(?! *charset *=)[^;]*|; *charset *= *"?utf-8"? *)*$/i;

/** A fault of the HTTP request itself, with its status. */
export class HttpFault extends Error {
  readonly status: number;
  readonly code = 'BAD_INPUT';

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * Reads a JSON body: UTF-8, at most 256 KiB, nested at most 32 deep.
 * @throws HttpFault 415 for another type or encoding, 413 if it is too large (the rest is not read), 400 if it is no JSON
 */
export async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const type = request.headers['content-type'] ?? '';
  if (!JSON_TYPE.test(type))
    throw new HttpFault(415, `expected "Content-Type: application/json" in UTF-8, found "${type.slice(0, 80)}"`);
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw new HttpFault(415, 'a compressed request body is not accepted; send it as it is');
  return parseJson(await readBody(request));
}

/** By its events: leaving a loop over the stream early would destroy the socket before the answer. */
async function readBody(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= MAX_BODY_BYTES) return void chunks.push(chunk);
      request.pause();
      reject(tooLarge());
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', reject);
    request.once('close', () => reject(new HttpFault(400, 'the request broke off')));
  });
}

function tooLarge(): HttpFault {
  return new HttpFault(413, `the request body is over ${MAX_BODY_BYTES / 1024} KiB; send less at once`);
}

function parseJson(body: Buffer): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw new HttpFault(400, 'the request body is not UTF-8');
  }
  if (isTooDeep(text)) throw new HttpFault(400, `the request body is nested more than ${MAX_JSON_DEPTH} deep`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HttpFault(
      400,
      `the request body is not JSON: ${error instanceof Error ? error.message.slice(0, 200) : ''}`,
    );
  }
}

/** Counts brackets outside of strings, so that a hostile nesting never reaches a recursive parser or walker. */
export function isTooDeep(text: string): boolean {
  let depth = 0;
  let isString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isString) {
      if (code === 92) at++;
      else if (code === 34) isString = false;
    } else if (code === 34) isString = true;
    else if (code === 123 || code === 91) {
      if (++depth > MAX_JSON_DEPTH) return true;
    } else if (code === 125 || code === 93) depth--;
  }
  return false;
}

/**
 * Reads a parsed body, or a message's payload, as a request.
 * @throws EngineError BAD_INPUT naming the part that is wrong
 */
export function toOperationRequest(body: unknown): OperationRequest {
  if (!isObject(body))
    throw new EngineError('BAD_INPUT', 'expected a JSON object with "query"; batches are not accepted');
  const { query, operationName, variables, extensions } = body;
  if (typeof query !== 'string' || query === '')
    throw new EngineError('BAD_INPUT', '"query" must be a GraphQL document as text');
  if (!isNullish(operationName) && typeof operationName !== 'string')
    throw new EngineError('BAD_INPUT', '"operationName" must be text');
  if (!isNullish(variables) && !isObject(variables))
    throw new EngineError('BAD_INPUT', '"variables" must be an object');
  if (!isNullish(extensions) && !isObject(extensions))
    throw new EngineError('BAD_INPUT', '"extensions" must be an object');
  return {
    query,
    operationName: operationName ?? undefined,
    variables: variables ?? undefined,
    extensions: extensions ?? undefined,
  };
}

function isNullish(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The idempotency key of a call, from the header or `extensions.idempotencyKey`.
 * @throws EngineError BAD_INPUT unless it is 1 to 255 visible ASCII characters
 */
export function readIdempotencyKey(
  header: string | undefined,
  extensions: Readonly<Record<string, unknown>> | undefined,
): string | undefined {
  const key = header ?? extensions?.idempotencyKey;
  if (isNullish(key)) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new EngineError('BAD_INPUT', 'the Idempotency-Key must be 1 to 255 visible ASCII characters');
}

/**
 * The event that a change answers, from `extensions.causedBy`: it becomes `causedBy` of the change's events.
 * @throws EngineError BAD_INPUT unless it has the form of an event's id
 */
export function readCausedBy(extensions: Readonly<Record<string, unknown>> | undefined): string | undefined {
  const id = extensions?.causedBy;
  if (isNullish(id)) return undefined;
  if (typeof id === 'string' && /^evt_[0-9a-f]{32}$/.test(id)) return id;
  throw new EngineError('BAD_INPUT', '"extensions.causedBy" must be the id of an event: evt_…');
}

/** What a request asks of its stream beside the document. */
export interface StreamExtensions {
  /** A cursor to go on behind, whatever the document says. */
  readonly after: string | undefined;
  readonly checkpoints: boolean;
}

/**
 * Where a subscription begins and whether it gets checkpoints, from `extensions.after` and `extensions.checkpoints`.
 * @throws EngineError BAD_INPUT unless they are text and a boolean
 */
export function readStreamExtensions(extensions: Readonly<Record<string, unknown>> | undefined): StreamExtensions {
  const { after, checkpoints } = extensions ?? {};
  if (!isNullish(after) && typeof after !== 'string')
    throw new EngineError('BAD_INPUT', '"extensions.after" must be a cursor, as text');
  if (!isNullish(checkpoints) && typeof checkpoints !== 'boolean')
    throw new EngineError('BAD_INPUT', '"extensions.checkpoints" must be true or false');
  return { after: after ?? undefined, checkpoints: checkpoints ?? false };
}

/** The caller's `X-Request-Id` if it is a sane one, else a new id. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : newId('req');
}
