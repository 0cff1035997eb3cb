import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { Claim } from './claim.ts';
import type { ConnectionTimings } from './connection-timings.ts';
import type { SentEvidence } from './evidence.ts';
import { toStorable } from './storable.ts';

/** What is kept of one attempt; `Attempt` in the graph. */
export interface AttemptRecord {
  /** `att_…`, with the time of its start. */
  readonly id: string;
  readonly startedAt: Date;
  readonly durationMs: number;
  readonly statusCode: number | null;
  /** A `FailureClass`, or `ADDRESS_REFUSED`; null after a 2xx. */
  readonly errorClass: string | null;
  /** Why our own guard forbade it. */
  readonly reason: string | null;
  readonly responseHeaders: Readonly<Record<string, string>>;
  readonly responseBody: string;
  readonly isTruncated: boolean;
  readonly remoteAddress: string | null;
  readonly timings: ConnectionTimings;
  readonly firstByteMs: number | null;
  readonly sent: SentEvidence | null;
}

/**
 * What becomes of a claim. `released` hands it back untouched: nothing was sent, or whether it was is not known. `deferred` does so for a
 * while: it is no attempt, and others go first.
 */
export type ClaimResult = { readonly claim: Claim } & (
  | { readonly status: 'succeeded'; readonly attempt: AttemptRecord }
  | { readonly status: 'rescheduled'; readonly attempt: AttemptRecord; readonly delayMs: number }
  | { readonly status: 'exhausted'; readonly attempt: AttemptRecord }
  | { readonly status: 'deferred'; readonly delayMs: number }
  | { readonly status: 'renderFailed'; readonly error: string }
  | { readonly status: 'cancelled'; readonly error: string }
  | { readonly status: 'released' }
);

/** A result that counted: its claim was still the newest. */
export interface Finished {
  readonly id: string;
  /** When the next attempt is due. */
  readonly nextAt: Date | null;
}

const MAX_ERROR_LENGTH = 2_000;

const STORED = {
  succeeded: 'SUCCEEDED',
  rescheduled: 'PENDING',
  deferred: 'PENDING',
  exhausted: 'EXHAUSTED',
  renderFailed: 'RENDER_FAILED',
  cancelled: 'CANCELLED',
  released: 'RELEASED',
} as const;

/**
 * Writes results, each under its claim's generation: those whose lease ran out and was taken over, or whose delivery was
 * cancelled meanwhile, are left out of the answer and change nothing. The delivery, its attempt and its next time change
 * together.
 */
export async function finishDeliveries(
  { db }: Pick<Database, 'db'>,
  results: readonly ClaimResult[],
): Promise<Finished[]> {
  const { rows } = await sql<{ id: string; next_at: Date | null }>`
    select id, next_at from fanfare.finish_deliveries(${JSON.stringify(results.map(toRow))}::jsonb)
  `.execute(db);
  return rows.map(({ id, next_at }) => ({ id, nextAt: next_at }));
}

/** What is null is left out: the database reads each name of each row. */
function toRow(result: ClaimResult) {
  const { claim, status } = result;
  return {
    account_id: claim.accountId,
    id: claim.id,
    webhook_id: claim.webhookId,
    subject: claim.subject ?? undefined,
    generation: claim.generation,
    tied_key: claim.bodyKey ?? undefined,
    status: STORED[status],
    delay_ms: 'delayMs' in result ? result.delayMs : undefined,
    error: 'error' in result ? toStorable(result.error, MAX_ERROR_LENGTH) : undefined,
    ...('attempt' in result ? toAttemptRow(result.attempt) : {}),
  };
}

function toAttemptRow(attempt: AttemptRecord) {
  return {
    started_at: attempt.startedAt.toISOString(),
    duration_ms: attempt.durationMs,
    status_code: attempt.statusCode ?? undefined,
    error_class: attempt.errorClass ?? undefined,
    reason: attempt.reason ?? undefined,
    response_headers: attempt.responseHeaders,
    response_body: attempt.responseBody,
    is_truncated: attempt.isTruncated,
    remote_address: attempt.remoteAddress ?? undefined,
    attempt_id: attempt.id,
    request_headers: attempt.sent?.headers,
    body_hash: attempt.sent?.bodyHash,
    is_reused: attempt.sent?.isReused,
    dns_ms: attempt.timings.dnsMs ?? undefined,
    connect_ms: attempt.timings.connectMs ?? undefined,
    tls_ms: attempt.timings.tlsMs ?? undefined,
    first_byte_ms: attempt.firstByteMs ?? undefined,
  };
}
