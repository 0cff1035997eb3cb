import { newId } from '../../src/runtime/id.ts';
import type { ClaimLimits } from '../../src/webhooks/claim.ts';
import { NO_STEPS } from '../../src/webhooks/connection-timings.ts';
import type { AttemptRecord } from '../../src/webhooks/finish.ts';

/** Of a test that claims by itself; it changes those that are its subject. */
export const CLAIM_LIMITS: ClaimLimits = {
  holder: 'one',
  limit: 100,
  reserved: 0,
  leaseMs: 30_000,
  webhookCap: 8,
  accountCap: 100,
  busy: new Map(),
  aheadLimit: 0,
  ahead: new Map(),
};

/** An attempt, begun now, that was answered 500. */
export function failedAttempt(changes: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    id: newId('att'),
    startedAt: new Date(),
    durationMs: 10,
    statusCode: 500,
    errorClass: 'HTTP_STATUS',
    reason: null,
    responseHeaders: {},
    responseBody: '',
    isTruncated: false,
    remoteAddress: null,
    timings: NO_STEPS,
    firstByteMs: null,
    sent: null,
    ...changes,
  };
}
