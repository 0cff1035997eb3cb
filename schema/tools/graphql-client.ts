import { setTimeout as wait } from 'node:timers/promises';
import { type Server, ToolError } from './command-line.ts';

/** One operation with one root field, which may be sent again. */
export interface Call {
  readonly document: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** The root field, whose value is the answer. */
  readonly field: string;
  /** Needed for a mutation: it makes a repeat harmless. */
  readonly idempotencyKey?: string;
}

/** What the server has to say to a call, once and for all. */
export type Answer =
  | { readonly status: 'done'; readonly value: unknown }
  /** A code of `errors[]`; the call's own fault. */
  | { readonly status: 'failed'; readonly code: string; readonly message: string };

export interface GraphqlClient {
  /**
   * Sends the call until it is answered: over connection failures, 5xx and passing codes with the same idempotency key.
   * One that is given up while others are answered has failed, with its last code.
   * @throws ServerLost if nothing is answered for as long; ToolError for a server or key that no repeat will mend
   */
  ask(call: Call): Promise<Answer>;
}

export interface ClientOptions extends Server {
  /** What the tool's operations need, named where the key lacks one. */
  readonly scopes: readonly string[];
  /** How long a call is tried. @default 120_000 (ms) */
  readonly giveUpAfterMs?: number;
  /** Aborting it ends waits: a call that fails then is not tried again. */
  readonly signal?: AbortSignal;
  /** Told of each failure that is tried again. Must not throw. */
  readonly onRetry?: (reason: string) => void;
  /** Monotonic milliseconds. @default performance.now */
  readonly now?: () => number;
  /** A number in [0, 1), for the waits. @default Math.random */
  readonly random?: () => number;
}

/** The server gave no answer for too long; whether the change was made is unknown, until it is tried again. */
export class ServerLost extends Error {}

/** Conditions that pass, among the codes of `errors[]`. */
const PASSING = ['UNAVAILABLE', 'TIMEOUT', 'RATE_LIMITED', 'INTERNAL', 'CURSOR_PENDING'];
const ANSWER_WITHIN_MS = 30_000;
/** Wait at most BASE_MS, then twice as long each time up to CAP_MS, but never less than half of it. */
const BASE_MS = 100;
const CAP_MS = 3_000;

type Passing = { readonly status: 'passing'; readonly code: string; readonly reason: string };
type Attempt = Answer | Passing;

/** Makes a client of one server; nothing is sent yet. */
export function createGraphqlClient(options: ClientOptions): GraphqlClient {
  const { giveUpAfterMs = 120_000, signal, onRetry = () => {}, now = () => performance.now() } = options;
  const { random = Math.random } = options;
  let answeredAt = Number.NEGATIVE_INFINITY;
  const giveUp = ({ code, reason }: Passing, failedAt: number): Answer => {
    const message = `${reason}, for ${Math.round(giveUpAfterMs / 1_000)} s`;
    // others were answered meanwhile: it is this call that the server can't take
    if (answeredAt > failedAt) return { status: 'failed', code, message };
    throw new ServerLost(message);
  };
  return {
    async ask(call) {
      const startedAt = now();
      for (let failure = 0; ; failure++) {
        const attempt = await send(options, call);
        if (attempt.status !== 'passing') {
          answeredAt = now();
          return attempt;
        }
        if (signal?.aborted) throw new ServerLost(attempt.reason);
        const pauseMs = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failure, 10)) * (0.5 + random() / 2);
        if (now() + pauseMs > startedAt + giveUpAfterMs) return giveUp(attempt, startedAt);
        onRetry(attempt.reason);
        // aborted, it is tried once more at once
        await wait(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
      }
    },
  };
}

async function send({ url, key, scopes }: ClientOptions, call: Call): Promise<Attempt> {
  const { document: query, variables, idempotencyKey } = call;
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        accept: 'application/json',
        ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
      },
      body: JSON.stringify({ query, variables }),
      redirect: 'manual', // another address would get the key
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    text = await response.text();
  } catch (error) {
    return { status: 'passing', code: 'UNREACHABLE', reason: `${url} can't be reached: ${reasonOf(error)}` };
  }
  return readAnswer(call, { url, scopes, status: response.status, body: parseJson(text) });
}

/** What GraphQL over HTTP answers. */
interface GraphqlBody {
  readonly data?: Readonly<Record<string, unknown>> | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: { readonly code?: string } }[];
}

interface HttpAnswer extends Pick<ClientOptions, 'url' | 'scopes'> {
  readonly status: number;
  readonly body: GraphqlBody | undefined;
}

function readAnswer({ field }: Call, { url, scopes, status, body }: HttpAnswer): Attempt {
  const [error] = body?.errors ?? [];
  const value = body?.data?.[field];
  if (error === undefined && value !== undefined) return { status: 'done', value };
  const code = error?.extensions?.code;
  if (error !== undefined && code !== undefined) return judge({ code, message: error.message }, scopes);
  // 408: a request that stood still halfway, of a machine that slept for instance, and was not carried out
  if (status >= 500 || status === 408)
    return { status: 'passing', code: `HTTP_${status}`, reason: `${url} answered ${status}` };
  throw new ToolError(`${url} answered ${status}, which is no answer to GraphQL; is it Fanfare?`);
}

function judge({ code, message }: { code: string; message: string }, scopes: readonly string[]): Attempt {
  if (PASSING.includes(code)) {
    return { status: 'passing', code, reason: `the server answered ${code}: ${message}` };
  }
  if (code === 'UNAUTHENTICATED') throw new ToolError(`the key is refused: ${message}`);
  if (code === 'FORBIDDEN') {
    throw new ToolError(`the key lacks a scope: ${message}; needed are ${scopes.join(', ')}`);
  }
  if (code.startsWith('GRAPHQL_')) throw new ToolError(`the server's schema is another than this tool's: ${message}`);
  return { status: 'failed', code, message };
}

function parseJson(text: string): GraphqlBody | undefined {
  try {
    const body: unknown = JSON.parse(text);
    // checked as far as it is read: each name of it may be missing
    return typeof body === 'object' && body !== null ? (body as GraphqlBody) : undefined;
  } catch {
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `no answer in ${ANSWER_WITHIN_MS / 1_000} s`;
  const { cause } = error;
  // a host with several addresses fails with one error for each
  const first: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
  return first instanceof Error && first.message !== '' ? first.message : error.message;
}
