import { setTimeout as wait } from 'node:timers/promises';
import { Agent, request } from 'undici';
import type { AttemptOutcome, Sender } from '../../src/webhooks/attempt.ts';
import { NO_STEPS } from '../../src/webhooks/connection-timings.ts';

/**
 * A sender as one writes it who trusts his receivers, to be seen to hold too much: it reads a body to its end, and what goes on past
 * the deadline it only waits for no longer.
 */
export function createNaiveSender({ deadlineMs }: { readonly deadlineMs: number }): Sender {
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  return {
    async send({ url, headers, body }) {
      const startedAtMs = performance.now();
      const answer = request(url, { dispatcher, method: 'POST', headers, body }).then(async (response) => ({
        statusCode: response.statusCode,
        text: await response.body.text(),
      }));
      answer.catch(() => {}); // nobody may wait for it any more
      const came = await Promise.race([answer, wait(deadlineMs, undefined)]);
      return outcomeOf(came, performance.now() - startedAtMs);
    },
    close: () => dispatcher.destroy(),
  };
}

function outcomeOf(came: { statusCode: number; text: string } | undefined, durationMs: number): AttemptOutcome {
  return {
    ...(came === undefined ? { kind: 'failed', errorClass: 'TIMEOUT' } : { kind: 'succeeded' }),
    statusCode: came?.statusCode,
    responseHeaders: {},
    responseBody: came?.text.slice(0, 4_096) ?? '',
    isTruncated: false,
    durationMs: Math.round(durationMs),
    timings: NO_STEPS,
    firstByteMs: undefined,
    sent: undefined,
    remoteAddress: undefined,
    retryAfterMs: undefined,
  };
}
