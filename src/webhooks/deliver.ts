import type { EngineServices } from '../graphql/context.ts';
import type { AttemptOutcome, Sender } from './attempt.ts';
import type { Claim } from './claim.ts';
import { NO_STEPS } from './connection-timings.ts';
import type { AttemptRecord, ClaimResult } from './finish.ts';
import { scheduleOf } from './pace.ts';
import type { ReadyDelivery } from './prepare.ts';
import { nextAttemptDelayMs, type Schedule } from './schedule.ts';
import type { SignatureRequest } from './sign.ts';
import type { Webhook } from './webhook.ts';

export interface DeliverDeps {
  readonly engine: EngineServices;
  readonly sender: Pick<Sender, 'send'>;
  /** A number in [0, 1): the retry's jitter. */
  readonly random: () => number;
  readonly sign: (request: SignatureRequest) => string;
}

/** What came of an attempt: its result, and what it says of the receiver. */
export interface Delivered {
  readonly result: ClaimResult;
  /** As it was when it was read; undefined where no attempt was made. */
  readonly webhook: Webhook | undefined;
  readonly receiver: ReceiverState;
}

/**
 * - `gone` answered 410: it wants no more, ever
 * - `busy` answered 429 or 503: it wants nothing for a while, as long as it said, if it did
 * - `fair` any other
 */
export type ReceiverState =
  | { readonly kind: 'gone' }
  | { readonly kind: 'busy'; readonly forMs: number | undefined }
  | { readonly kind: 'fair' };

/**
 * Makes one attempt: signs with a fresh timestamp, sends, decides. Never rejects: what can't be signed is a failed attempt.
 * Takes no longer than the sender's deadline.
 */
export async function deliver(deps: DeliverDeps, ready: ReadyDelivery, signal: AbortSignal): Promise<Delivered> {
  const { claim, webhook } = ready;
  const startedAt = new Date(deps.engine.clock.now());
  const outcome = await send().catch(brokenRequest);
  const schedule = scheduleOf(webhook);
  return {
    result: decide(claim, { outcome, startedAt, schedule, random: deps.random() }),
    webhook,
    receiver: stateOf(outcome),
  };

  async function send(): Promise<AttemptOutcome> {
    // once, for the signature, the hash and the socket
    const body = Buffer.from(ready.body);
    const headers = toHeaders(deps, ready, { body, timestampSeconds: Math.floor(startedAt.getTime() / 1_000) });
    return deps.sender.send({ url: webhook.url, headers, body, signal });
  }
}

/** @see Standard Webhooks 1.0.0, section "Webhook headers" */
function toHeaders(
  { engine, sign }: DeliverDeps,
  { claim, secrets }: ReadyDelivery,
  { body, timestampSeconds }: { readonly body: Uint8Array; readonly timestampSeconds: number },
) {
  const { accountId, id, eventId, position } = claim;
  const event =
    eventId === null
      ? {}
      : {
          'fanfare-event-id': eventId,
          'fanfare-cursor': engine.cursors.encode(accountId, { kind: 'position', position }),
        };
  return {
    'webhook-id': id,
    'webhook-timestamp': String(timestampSeconds),
    'webhook-signature': sign({ secrets, id, timestampSeconds, body }),
    ...event,
  };
}

/** No request could be made, such as by a malformed signing secret, whose error never quotes it: it goes through the schedule like a receiver's fault, visibly. */
function brokenRequest(error: unknown): AttemptOutcome {
  return {
    kind: 'failed',
    errorClass: 'PROTOCOL',
    statusCode: undefined,
    responseHeaders: {},
    responseBody: error instanceof Error ? error.message.slice(0, 200) : '',
    isTruncated: false,
    durationMs: 0,
    timings: NO_STEPS,
    firstByteMs: undefined,
    sent: undefined,
    remoteAddress: undefined,
    retryAfterMs: undefined,
  };
}

function stateOf({ statusCode, retryAfterMs }: AttemptOutcome): ReceiverState {
  if (statusCode === 410) return { kind: 'gone' };
  return statusCode === 429 || statusCode === 503 ? { kind: 'busy', forMs: retryAfterMs } : { kind: 'fair' };
}

interface Evidence {
  readonly outcome: AttemptOutcome;
  readonly startedAt: Date;
  readonly schedule: Schedule;
  readonly random: number;
}

function decide(claim: Claim, { outcome, startedAt, schedule, random }: Evidence): ClaimResult {
  // given up by us: the receiver may have got it, so the same bytes go out again under the same id
  if (outcome.kind === 'failed' && outcome.errorClass === 'ABORTED') return { claim, status: 'released' };
  const attempt = toRecord(claim, outcome, startedAt);
  if (outcome.kind === 'succeeded') return { claim, status: 'succeeded', attempt };
  const isPing = claim.seq === 0;
  const delayMs = nextAttemptDelayMs(schedule, {
    made: claim.step + 1,
    elapsedMs: claim.sinceFirstMs + outcome.durationMs,
    random,
    retryAfterMs: outcome.retryAfterMs,
  });
  if (isPing || delayMs === undefined) return { claim, status: 'exhausted', attempt };
  return { claim, status: 'rescheduled', attempt, delayMs };
}

function toRecord(claim: Claim, outcome: AttemptOutcome, startedAt: Date): AttemptRecord {
  return {
    id: attemptId(claim, startedAt),
    startedAt,
    durationMs: outcome.durationMs,
    statusCode: outcome.statusCode ?? null,
    errorClass: outcome.kind === 'succeeded' ? null : outcome.errorClass,
    reason: outcome.kind === 'refused' ? outcome.reason : null,
    responseHeaders: outcome.responseHeaders,
    responseBody: outcome.responseBody,
    isTruncated: outcome.isTruncated,
    remoteAddress: outcome.remoteAddress ?? null,
    timings: outcome.timings,
    firstByteMs: outcome.firstByteMs ?? null,
    sent: outcome.sent ?? null,
  };
}

/** The delivery's random part behind the time of the start: no delivery has two attempts at once. */
function attemptId({ id }: Claim, startedAt: Date): string {
  return `att_${startedAt.getTime().toString(16).padStart(12, '0')}${id.slice(-20)}`;
}
