import { createHmac, timingSafeEqual } from 'node:crypto';

/** Why a request is not to be trusted. The codes are stable. */
export type WebhookVerificationCode =
  | 'SECRET_INVALID'
  | 'HEADERS_MISSING'
  | 'TIMESTAMP_INVALID'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_TOO_NEW'
  | 'SIGNATURE_MISMATCH'
  | 'BODY_INVALID'
  | 'BODY_TOO_LARGE'
  | 'BODY_MISSING';

/** A request that is not a genuine, recent callback; answer it with 400. Only `SECRET_INVALID` is your own fault. */
export class WebhookVerificationError extends Error {
  readonly code: WebhookVerificationCode;

  constructor(code: WebhookVerificationCode, message: string) {
    super(message);
    this.name = 'WebhookVerificationError';
    this.code = code;
  }
}

/** One event, as it was called back. */
export interface VerifiedWebhook {
  /** `webhook-id`: the same on every retry of one delivery. Remember it to handle each delivery once. */
  readonly id: string;
  /** The event's wire name, such as `order.placed`. */
  readonly type: string;
  /** When the event occurred, ISO 8601 in UTC; not when it was sent. */
  readonly timestamp: string;
  readonly data: unknown;
  /** `fanfare-event-id`. Not covered by the signature, like the cursor: TLS alone protects it on the way. */
  readonly eventId: string | undefined;
  /** `fanfare-cursor`: pull from here what was missed. The server checks it when it is used. */
  readonly cursor: string | undefined;
}

/** Headers as Node's `http`, the Fetch API or a plain object have them. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface VerifyOptions {
  /** `whsec_…`; several while one is rotated out. */
  readonly secret: string | readonly string[];
  readonly headers: WebhookHeaders;
  /** The body's bytes as they arrived. Parsed and printed again they no longer fit the signature. */
  readonly body: string | Uint8Array;
  /** How far the sender's clock may be from ours, either way. @default 300 (s) */
  readonly toleranceSeconds?: number;
  /** Unix milliseconds. @default Date.now */
  readonly now?: () => number;
}

/**
 * Checks a callback's signature and age, and reads its event.
 *
 * Compares in constant time, every signature with every secret. Does not remember ids: a request may be replayed within the
 * tolerance, so handle each `id` once.
 *
 * @throws {WebhookVerificationError}
 * @see Standard Webhooks 1.0.0, section "Signature verification"
 */
export function verifyWebhook(options: VerifyOptions): VerifiedWebhook {
  const { headers, body, toleranceSeconds = 300, now = Date.now } = options;
  const keys = [options.secret].flat().map(readKey);
  if (keys.length === 0) throw new WebhookVerificationError('SECRET_INVALID', 'expected at least one secret');
  const id = readRequired(headers, 'webhook-id');
  const timestamp = readRequired(headers, 'webhook-timestamp');
  const signatures = readRequired(headers, 'webhook-signature').split(' ').slice(0, MAX_SIGNATURES);
  checkTimestamp(timestamp, { nowSeconds: now() / 1_000, toleranceSeconds });
  const expected = keys.map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest());
  if (!isAnyEqual(expected, signatures)) {
    throw new WebhookVerificationError(
      'SIGNATURE_MISMATCH',
      'no signature fits: check the secret, and pass the raw body',
    );
  }
  const eventId = readHeader(headers, 'fanfare-event-id');
  return { id, ...parseBody(body), eventId, cursor: readHeader(headers, 'fanfare-cursor') };
}

function readKey(secret: string): Buffer {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  if (key.length >= 24 && key.length <= 64) return key;
  throw new WebhookVerificationError(
    'SECRET_INVALID',
    'expected a secret of the form whsec_<base64 of 24 to 64 bytes>',
  );
}

/** @throws {WebhookVerificationError} HEADERS_MISSING */
export function readRequired(headers: WebhookHeaders, name: string): string {
  const value = readHeader(headers, name);
  if (value !== undefined && value !== '') return value;
  throw new WebhookVerificationError('HEADERS_MISSING', `expected the header ${name}`);
}

/** Whatever the case of its name. */
export function readHeader(headers: WebhookHeaders, name: string): string | undefined {
  if (isHeaders(headers)) return headers.get(name) ?? undefined;
  const value = Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  return typeof value === 'string' ? value : value?.[0];
}

/** By its form: there are other classes of headers than the global one. */
function isHeaders(headers: WebhookHeaders): headers is Headers {
  return typeof headers.get === 'function';
}

/** @throws {WebhookVerificationError} TIMESTAMP_INVALID, TIMESTAMP_TOO_OLD, TIMESTAMP_TOO_NEW */
export function checkTimestamp(
  text: string,
  limits: { readonly nowSeconds: number; readonly toleranceSeconds: number },
): void {
  if (!/^\d{1,15}$/.test(text)) {
    throw new WebhookVerificationError('TIMESTAMP_INVALID', 'expected a timestamp in whole seconds');
  }
  // Whole seconds on both sides: the sender has rounded its clock down too.
  const ageSeconds = Math.floor(limits.nowSeconds) - Number(text);
  if (ageSeconds > limits.toleranceSeconds) {
    throw new WebhookVerificationError('TIMESTAMP_TOO_OLD', `sent ${ageSeconds} s ago`);
  }
  if (-ageSeconds > limits.toleranceSeconds) {
    throw new WebhookVerificationError('TIMESTAMP_TOO_NEW', `sent ${-ageSeconds} s ahead of this clock`);
  }
}

/** Schemes other than v1 (such as v1a) are passed over. Never stops at the first hit: the time tells nothing. */
function isAnyEqual(expected: readonly Buffer[], signatures: readonly string[]): boolean {
  let isEqual = false;
  for (const signature of signatures) {
    const [scheme, text = ''] = signature.split(',');
    const given = Buffer.from(text, 'base64');
    for (const digest of expected) {
      if (scheme === 'v1' && given.length === digest.length && timingSafeEqual(given, digest)) isEqual = true;
    }
  }
  return isEqual;
}

function parseBody(body: string | Uint8Array): Pick<VerifiedWebhook, 'type' | 'timestamp' | 'data'> {
  const parsed = parseJson(typeof body === 'string' ? body : new TextDecoder().decode(body));
  if (typeof parsed !== 'object' || parsed === null) throw bodyInvalid();
  const { type, timestamp, data }: { type?: unknown; timestamp?: unknown; data?: unknown } = parsed;
  if (typeof type !== 'string' || typeof timestamp !== 'string' || data === undefined) throw bodyInvalid();
  return { type, timestamp, data };
}

/** @throws {WebhookVerificationError} BODY_INVALID */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw bodyInvalid('JSON');
  }
}

function bodyInvalid(expected = 'a JSON object with type, timestamp and data'): WebhookVerificationError {
  return new WebhookVerificationError('BODY_INVALID', `expected ${expected}`);
}

/** More than any rotation needs; each costs a comparison. */
const MAX_SIGNATURES = 32;
