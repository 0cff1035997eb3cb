import { reasonOf } from './ask.ts';
import type { Callback } from './callback.ts';

/** As long as the server waits for a receiver. */
const TIMEOUT_MS = 15_000;

/** What came of one callback. */
export interface Forwarded {
  readonly isOk: boolean;
  /** `200`, or why there was no answer. */
  readonly outcome: string;
  readonly ms: number;
}

export interface ForwardRequest {
  readonly callback: Callback;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** POSTs one callback as the server would: no redirect is followed. Undefined if it was stopped meanwhile. */
export async function forward(
  url: string,
  { callback, headers, signal }: ForwardRequest,
): Promise<Forwarded | undefined> {
  const startedAt = performance.now();
  const since = () => performance.now() - startedAt;
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'fanfare listen', ...headers },
      body: callback.body,
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.arrayBuffer();
    return { isOk: response.ok, outcome: String(response.status), ms: since() };
  } catch (error) {
    if (signal.aborted) return undefined;
    const isLate = error instanceof Error && error.name === 'TimeoutError';
    return { isOk: false, outcome: isLate ? `no answer within ${TIMEOUT_MS / 1_000} s` : reasonOf(error), ms: since() };
  }
}
