import type { SubscribePayload } from 'graphql-ws';
import { createBackoff, pause } from './backoff.ts';
import { ENDED, explain, type Fault, STOPPED, WatchError } from './fault.ts';
import type { Link, Result } from './link.ts';

export interface CallOptions {
  readonly payload: SubscribePayload;
  readonly kind: 'query' | 'mutation';
  readonly onResult: (result: Result) => void;
  /** From the call to the answer, connecting included. @default 30_000 (ms) */
  readonly answerWithinMs?: number | undefined;
  readonly random?: (() => number) | undefined;
}

/** A query or mutation under way. */
export interface OpenCall {
  /** Gives it up: the server may do it all the same. Twice is harmless. */
  stop(): void;
  /**
   * Resolves when it was answered or given up.
   * @throws WatchError; `CONNECTION_LOST` where it may have been done, but no answer came
   */
  readonly ended: Promise<void>;
}

const ANSWER_WITHIN_MS = 30_000;

/**
 * Sends a query or mutation. What may have reached the server is not sent twice, unless it is a mutation with an
 * `idempotencyKey` in its extensions, which the server does once however often it comes.
 */
export function openCall(link: Link, options: CallOptions): OpenCall {
  const stopping = new AbortController();
  return { stop: () => stopping.abort(), ended: call(link, options, stopping) };
}

async function call(link: Link, options: CallOptions, stopping: AbortController): Promise<void> {
  const { kind, payload, answerWithinMs = ANSWER_WITHIN_MS } = options;
  const { signal } = stopping;
  const backoff = createBackoff(options);
  const keys = { refusedKeys: 0 };
  const isRepeatable = kind === 'mutation' && typeof payload.extensions?.idempotencyKey === 'string';
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    stopping.abort();
  }, answerWithinMs);
  let wasSent = false;
  try {
    while (!signal.aborted) {
      const outcome = await tryOnce(link, options, signal);
      if (outcome === 'answered') return;
      wasSent ||= outcome.wasSent;
      if (signal.aborted) break;
      const { fault, retryMs = backoff.next() } = outcome;
      const reason = explain(fault, keys);
      if (outcome.wasSent && !isRepeatable) throw unanswered(fault, kind, reason);
      await pause(retryMs, signal);
    }
    if (isLate)
      throw new WatchError('TIMEOUT', `no answer within ${answerWithinMs / 1_000} s${wasSent ? doubt(kind) : ''}`);
  } finally {
    clearTimeout(timer);
  }
}

/** What the server itself says has its own code; everything else leaves open what was done. */
function unanswered(fault: Fault, kind: CallOptions['kind'], reason: string): WatchError {
  const code = Array.isArray(fault) ? codeOf(fault[0]) : 'CONNECTION_LOST';
  return new WatchError(code, `${reason}${code === 'CONNECTION_LOST' ? doubt(kind) : ''}`);
}

function codeOf(error: unknown): string {
  // what a GraphQL error is on the wire
  return (error as { readonly extensions?: { readonly code?: string } }).extensions?.code ?? 'INTERNAL';
}

function doubt(kind: CallOptions['kind']): string {
  if (kind === 'query') return '; ask again';
  return '; whether the change was made is not known: send extensions.idempotencyKey with a mutation, and it can be repeated';
}

interface Unanswered {
  readonly fault: Fault;
  readonly retryMs?: number | undefined;
  readonly wasSent: boolean;
}

function tryOnce(
  link: Link,
  { payload, onResult }: CallOptions,
  signal: AbortSignal,
): Promise<'answered' | Unanswered> {
  return new Promise((resolve, reject) => {
    let wasSent = false;
    let isAnswered = false;
    let leave = () => {};
    const stop = () => {
      leave();
      resolve({ fault: STOPPED, wasSent });
    };
    signal.addEventListener('abort', stop, { once: true });
    leave = link.start(payload, {
      sent: () => {
        wasSent = true;
      },
      accepted: () => {},
      next: (result) => {
        isAnswered = true;
        link.flowing();
        try {
          onResult(result);
        } catch (error) {
          // here, or the connection of all would be thought broken
          leave();
          reject(error);
        }
      },
      end: (fault, retryMs) => {
        signal.removeEventListener('abort', stop);
        resolve(isAnswered ? 'answered' : { fault: fault ?? ENDED, retryMs, wasSent });
      },
    });
  });
}
