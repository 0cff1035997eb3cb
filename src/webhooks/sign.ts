import { createHmac, randomBytes } from 'node:crypto';

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

/**
 * Signs one request by the `v1` scheme of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.
 *
 * @param request.secrets the live secrets, newest first; while one is rotated out both sign, and a receiver needs only one
 * @param request.body the bytes that are sent, exactly
 * @returns the value of `webhook-signature`: `v1,<base64>` for each secret, separated by spaces
 * @throws {SecretFormatError} for a malformed secret
 * @throws {RangeError} without a secret, for an id that is empty or holds a dot (the signed text would be ambiguous), or a
 *   timestamp that is not whole seconds
 */
export function signPayload(request: {
  readonly secrets: readonly string[];
  readonly id: string;
  readonly timestampSeconds: number;
  readonly body: string | Uint8Array;
}): string {
  const { secrets, id, timestampSeconds, body } = request;
  if (secrets.length === 0) throw new RangeError('expected at least one signing secret');
  if (!/^[^.\s]+$/.test(id)) throw new RangeError(`expected a message id without dots and spaces, found "${id}"`);
  if (!Number.isSafeInteger(timestampSeconds))
    throw new RangeError(`expected whole seconds, found ${timestampSeconds}`);
  return secrets
    .map(parseSecret)
    .map((key) => createHmac('sha256', key).update(`${id}.${timestampSeconds}.`).update(body).digest('base64'))
    .map((signature) => `v1,${signature}`)
    .join(' ');
}

const SECRET_PREFIX = 'whsec_';
