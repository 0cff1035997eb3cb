import { readFileSync } from 'node:fs';
import { CliError, UsageError } from './arguments.ts';

export interface AskCommand {
  /** The GraphQL endpoint, http or https. */
  readonly url: string;
  readonly key: string;
  /** Where the key is from: `ADMIN_API_KEY`. */
  readonly keyFrom: string;
  /** A GraphQL document; `-` reads it from standard input. */
  readonly document: string;
  /** A JSON object, as text. */
  readonly variables: string | undefined;
  readonly idempotencyKey: string | undefined;
}

const TIMEOUT_MS = 60_000;

/**
 * Sends one query or mutation and prints the answer as JSON on standard output.
 * @returns whether it came without errors
 * @throws UsageError for variables that are no JSON object, CliError where there is no answer to GraphQL
 */
export async function askServer({
  url,
  key,
  keyFrom,
  document,
  variables,
  idempotencyKey,
}: AskCommand): Promise<boolean> {
  const query = document === '-' ? readFileSync(0, 'utf8') : document;
  const response = await postQuery(
    { url, key },
    { query, variables: readVariables(variables) },
    {
      headers: idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
  ).catch((error: unknown) => {
    throw new CliError(`${url} can't be reached: ${reasonOf(error)}; is the server running?`);
  });
  const answer: unknown = await response.json().catch(() => undefined);
  if (typeof answer !== 'object' || answer === null || !('data' in answer || 'errors' in answer)) {
    throw new CliError(`${url} answered ${response.status}, which is no answer to GraphQL; is it Fanfare?`);
  }
  process.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  if (response.status === 401)
    process.stderr.write(`fanfare: it was asked with the key ${nameOf(key)} from ${keyFrom}\n`);
  return !('errors' in answer);
}

function readVariables(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  const value = parseJson(text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new UsageError(`--variables: expected a JSON object such as '{"id": "order_…"}', found ${text.slice(0, 80)}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Sends one GraphQL request. Rejects as `fetch` does. */
export function postQuery(
  { url, key }: Pick<AskCommand, 'url' | 'key'>,
  body: { readonly query: string; readonly variables?: unknown },
  { headers = {}, signal }: { readonly headers?: Readonly<Record<string, string>>; readonly signal: AbortSignal },
): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      accept: 'application/json',
      ...headers,
    },
    body: JSON.stringify(body),
    signal,
  });
}

/** The cursor of now; undefined where it can't be had, whatever the reason. */
export async function readHead(
  server: Pick<AskCommand, 'url' | 'key'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const response = await postQuery(server, { query: '{ head }' }, { signal: limit });
    // the form of an answer to this query; what is none of it gives undefined
    const { data } = (await response.json()) as { readonly data?: { readonly head?: string } | null };
    return data?.head;
  } catch {
    return undefined;
  }
}

/** Enough to know a key by, and nothing to use it with. */
export function nameOf(key: string): string {
  return /^ff_[0-9A-Za-z]{12}(?=_)/.exec(key)?.[0] ?? '(not of the form ff_…)';
}

/** What undici's "fetch failed" hides; of a host with several addresses, the first one's reason. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause: unknown = error.cause instanceof AggregateError ? error.cause.errors[0] : error.cause;
  return cause instanceof Error && cause.message !== '' ? cause.message : error.message;
}
