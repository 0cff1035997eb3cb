import { type BinaryLike, createHmac, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

/** A signing secret that is not `whsec_` and the base64 of 24 to 64 bytes. Its message never quotes the secret. */
export class SecretFormatError extends Error {
  constructor(found: string) {
    super(`expected a signing secret of the form whsec_<base64 of 24 to 64 bytes>, found ${found}`);
    this.name = 'SecretFormatError';
  }
}

/** Makes a signing secret: `whsec_` and the base64 of 32 random bytes. */
export function newSecret(random: (size: number) => Buffer = randomBytes): string {
  return SECRET_PREFIX + random(32).toString('base64');
}

/**
 * Reads the key out of a signing secret.
 *
 * @throws {SecretFormatError}
 * @see Standard Webhooks 1.0.0, section "Signature scheme"
 */
export function parseSecret(secret: string): Buffer {
  if (!secret.startsWith(SECRET_PREFIX)) throw new SecretFormatError('no whsec_ in front');
  const text = secret.slice(SECRET_PREFIX.length);
  const key = Buffer.from(text, 'base64');
  // Buffer skips what is not base64: only the way back shows it.
  if (key.toString('base64').replace(/=+$/, '') !== text.replace(/={1,2}$/, ''))
    throw new SecretFormatError('no base64');
  if (key.length < 24 || key.length > 64) throw new SecretFormatError(`${key.length} bytes`);
  return key;
}

/** What a signature is made of. */
export interface SignatureRequest {
  /** The live secrets, newest first; while one is rotated out both sign, and a receiver needs only one. */
  readonly secrets: readonly string[];
  readonly id: string;
  readonly timestampSeconds: number;
  /** The bytes that are sent, exactly. */
  readonly body: string | Uint8Array;
}

/**
 * Signs one request by the `v1` scheme of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.
 *
 * @returns the value of `webhook-signature`: `v1,<base64>` for each secret, separated by spaces
 * @throws {SecretFormatError} for a malformed secret
 * @throws {RangeError} without a secret, for an id that is empty or holds a dot (the signed text would be ambiguous), or a
 *   timestamp that is not whole seconds
 */
export function signPayload(request: SignatureRequest): string {
  return signWith(parseSecret, request);
}

/**
 * Makes a `signPayload` that keeps the keys of the last 1,000 secrets, as KeyObjects: made of bytes anew for each HMAC one costs
 * 12 µs a signature instead of 3 (Node 24.21, 2 KB, 2026-11-22).
 */
export function createSigner(): (request: SignatureRequest) => string {
  const keys = new Map<string, KeyObject>();
  function keyOf(secret: string): KeyObject {
    const known = keys.get(secret);
    if (known !== undefined) return known;
    const key = createSecretKey(parseSecret(secret));
    if (keys.size >= MAX_KEYS) keys.clear();
    keys.set(secret, key);
    return key;
  }
  return (request) => signWith(keyOf, request);
}

function signWith(
  keyOf: (secret: string) => BinaryLike | KeyObject,
  { secrets, id, timestampSeconds, body }: SignatureRequest,
): string {
  if (secrets.length === 0) throw new RangeError('expected at least one signing secret');
  if (!/^[^.\s]+$/.test(id)) throw new RangeError(`expected a message id without dots and spaces, found "${id}"`);
  if (!Number.isSafeInteger(timestampSeconds))
    throw new RangeError(`expected whole seconds, found ${timestampSeconds}`);
  return secrets
    .map((secret) => {
      const hmac = createHmac('sha256', keyOf(secret)).update(`${id}.${timestampSeconds}.`).update(body);
      return `v1,${hmac.digest('base64')}`;
    })
    .join(' ');
}

const MAX_KEYS = 1_000;
const SECRET_PREFIX = 'whsec_';
