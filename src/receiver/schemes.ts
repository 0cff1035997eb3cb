import { createHmac, timingSafeEqual } from 'node:crypto';
import {
  checkTimestamp,
  parseJson,
  readHeader,
  readRequired,
  type VerifyOptions,
  verifyWebhook,
  type WebhookHeaders,
  WebhookVerificationError,
} from './verify.ts';

/**
 * How a callback is signed.
 * - `standard`: Standard Webhooks, as this server signs
 * - `stripe`: `Stripe-Signature: t=…,v1=…`, over the time and the body
 * - `github`: `X-Hub-Signature-256: sha256=…`, over the body alone
 * - `shopify`: `X-Shopify-Hmac-Sha256`, over the body alone
 */
export type SignatureScheme = 'standard' | 'stripe' | 'github' | 'shopify';

/** A genuine callback of any scheme. */
export interface VerifiedCallback {
  /** The same on every retry, and, but for the type, covered by the signature: who replays a callback can't change it. */
  readonly id: string;
  /**
   * What happened, in its sender's words: `order.placed`, `invoice.paid`, `push`, `orders/create`. `github` and `shopify` do not sign
   * it: who replays a callback can give it another type, and so another `id`; handle only types that you expect.
   */
  readonly type: string;
  /** `standard`: the value of `data`. Else the whole body. */
  readonly data: unknown;
  /** Of a callback from this server: `timestamp`, and the headers `fanfare-event-id` and `fanfare-cursor`. */
  readonly timestamp?: string | undefined;
  readonly eventId?: string | undefined;
  readonly cursor?: string | undefined;
}

/**
 * Checks the signature of a callback, and reads it. Where the scheme signs no time (`github`, `shopify`), neither is its age
 * checked: only a store of replays tells whether it has come before.
 * @throws {WebhookVerificationError}
 */
export function verifyCallback(scheme: SignatureScheme, options: VerifyOptions): VerifiedCallback {
  return VERIFIERS[scheme](options);
}

const VERIFIERS: Readonly<Record<SignatureScheme, (options: VerifyOptions) => VerifiedCallback>> = {
  standard: verifyWebhook,
  stripe: verifyStripe,
  github: verifyGithub,
  shopify: verifyShopify,
};

/** @see https://docs.stripe.com/webhooks#verify-manually */
function verifyStripe({
  secret,
  headers,
  body,
  toleranceSeconds = 300,
  now = Date.now,
}: VerifyOptions): VerifiedCallback {
  const parts = readRequired(headers, 'stripe-signature')
    .split(',')
    .map((part) => part.split('=', 2).map((word) => word.trim()));
  const timestamp = parts.find(([name]) => name === 't')?.[1] ?? '';
  checkTimestamp(timestamp, { nowSeconds: now() / 1_000, toleranceSeconds });
  const signatures = parts.flatMap(([name, text = '']) => (name === 'v1' ? [Buffer.from(text, 'hex')] : []));
  requireEqual(digestsOf(secret, `${timestamp}.`, body), signatures);
  const event = readObject(body);
  if (typeof event.id !== 'string' || typeof event.type !== 'string')
    throw new WebhookVerificationError('BODY_INVALID', 'expected a JSON object with id and type');
  return { id: event.id, type: event.type, data: event };
}

/** @see https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries */
function verifyGithub({ secret, headers, body }: VerifyOptions): VerifiedCallback {
  const [name, text = ''] = readRequired(headers, 'x-hub-signature-256').split('=', 2);
  const signature = Buffer.from(name === 'sha256' ? text : '', 'hex');
  requireEqual(digestsOf(secret, '', body), [signature]);
  return bodyOnly(signature, { headers, body, typeHeader: 'x-github-event' });
}

/** @see https://shopify.dev/docs/apps/build/webhooks/subscribe/https */
function verifyShopify({ secret, headers, body }: VerifyOptions): VerifiedCallback {
  const signature = Buffer.from(readRequired(headers, 'x-shopify-hmac-sha256'), 'base64');
  requireEqual(digestsOf(secret, '', body), [signature]);
  return bodyOnly(signature, { headers, body, typeHeader: 'x-shopify-topic' });
}

/** The delivery's own id is in a header that the signature does not cover; the signature itself can't be changed. */
function bodyOnly(
  signature: Buffer,
  {
    headers,
    body,
    typeHeader,
  }: { readonly headers: WebhookHeaders; readonly body: VerifyOptions['body']; readonly typeHeader: string },
): VerifiedCallback {
  const type = readHeader(headers, typeHeader) ?? '';
  // one body may be sent as two types, such as an order that is made and paid at once
  return { id: `${type} ${signature.toString('hex')}`, type, data: readJson(body) };
}

function digestsOf(secret: VerifyOptions['secret'], prefix: string, body: VerifyOptions['body']): readonly Buffer[] {
  const keys = [secret].flat();
  if (keys.length === 0 || keys.includes('')) throw new WebhookVerificationError('SECRET_INVALID', 'expected a secret');
  return keys.map((key) => createHmac('sha256', key).update(prefix).update(body).digest());
}

/** Compares each with each: the time tells nothing. */
function requireEqual(expected: readonly Buffer[], given: readonly Buffer[]): void {
  let isEqual = false;
  for (const digest of expected)
    for (const signature of given.slice(0, MAX_SIGNATURES))
      if (signature.length === digest.length && timingSafeEqual(signature, digest)) isEqual = true;
  if (isEqual) return;
  throw new WebhookVerificationError(
    'SIGNATURE_MISMATCH',
    'no signature fits: check the secret, and pass the raw body',
  );
}

function readJson(body: VerifyOptions['body']): unknown {
  return parseJson(typeof body === 'string' ? body : new TextDecoder().decode(body));
}

function readObject(body: VerifyOptions['body']): Readonly<Record<string, unknown>> {
  const value = readJson(body);
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** More than any rotation needs; each costs a comparison. */
const MAX_SIGNATURES = 32;
