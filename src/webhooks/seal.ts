import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/** A sealed text can't be opened: its form is foreign, its key is neither of ours, or it was changed or moved. */
export class SealError extends Error {
  readonly code: 'MALFORMED' | 'UNKNOWN_KEY' | 'TAMPERED';

  constructor(
    code: 'MALFORMED' | 'UNKNOWN_KEY' | 'TAMPERED',
    message: string,
    options: { readonly cause?: unknown } = {},
  ) {
    super(message, options);
    this.name = 'SealError';
    this.code = code;
  }
}

/** Encrypts short secrets for storage. */
export interface Sealer {
  /**
   * Encrypts a text for one place. The same text sealed twice differs.
   *
   * @param context where it is stored, such as the webhook's id: sealed text copied to another row does not open there
   */
  seal(plaintext: string, context: string): string;
  /** @throws {SealError} */
  open(sealed: string, context: string): string;
  /** True if the text was sealed with another key than the current one, and is due to be sealed anew. */
  isStale(sealed: string): boolean;
}

/**
 * Makes a sealer of AES-256-GCM. Sealed text is `v1.<key id>.<base64url of nonce, ciphertext and tag>`; version, key id and
 * context are authenticated with it. Random 96-bit nonces are safe for 2^32 texts under one key (NIST SP 800-38D section 8.3).
 *
 * @param keys.key 32 bytes, of `SECRETS_KEY`; seals and opens
 * @param keys.previousKey opens only, for as long as texts sealed with it remain
 */
export function createSealer(keys: {
  readonly key: Uint8Array;
  readonly previousKey?: Uint8Array | undefined;
}): Sealer {
  const current = deriveSealingKey(keys.key);
  const previous = keys.previousKey === undefined ? undefined : deriveSealingKey(keys.previousKey);

  function seal(plaintext: string, context: string): string {
    // Not an argument: a nonce used twice gives the key stream away.
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', current.key, nonce).setAAD(boundTo(current.id, context));
    const sealed = Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${VERSION}.${current.id}.${sealed.toString('base64url')}`;
  }

  function open(sealed: string, context: string): string {
    const { keyId, bytes } = parseSealed(sealed);
    const key = [current, previous].find((candidate) => candidate?.id === keyId);
    if (key === undefined) throw new SealError('UNKNOWN_KEY', `sealed with a key that is not here (id ${keyId})`);
    const decipher = createDecipheriv('aes-256-gcm', key.key, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
      .setAAD(boundTo(keyId, context))
      .setAuthTag(bytes.subarray(-TAG_BYTES));
    try {
      return decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
    } catch (cause) {
      throw new SealError('TAMPERED', 'sealed text was changed, or belongs to another place', { cause });
    }
  }

  return { seal, open, isStale: (sealed) => parseSealed(sealed).keyId !== current.id };
}

/** The text's own key is never used as a cipher key: other uses of the same setting derive other keys (RFC 5869). */
function deriveSealingKey(secret: Uint8Array): { readonly id: string; readonly key: Buffer } {
  if (secret.length !== 32) throw new RangeError(`expected a key of 32 bytes, found ${secret.length}`);
  const derive = (info: string, length: number) => Buffer.from(hkdfSync('sha256', secret, '', info, length));
  return { id: derive('fanfare/seal/v1/key-id', 4).toString('hex'), key: derive('fanfare/seal/v1/key', 32) };
}

function parseSealed(sealed: string): { readonly keyId: string; readonly bytes: Buffer } {
  const [, keyId, text] = /^v1\.([0-9a-f]{8})\.([\w-]+)$/.exec(sealed) ?? [];
  const bytes = Buffer.from(text ?? '', 'base64url');
  if (keyId === undefined || bytes.length < NONCE_BYTES + TAG_BYTES) {
    throw new SealError('MALFORMED', 'expected sealed text of version 1, found another form');
  }
  return { keyId, bytes };
}

function boundTo(keyId: string, context: string): Buffer {
  return Buffer.from(`${VERSION}.${keyId}.${context}`, 'utf8');
}

const VERSION = 'v1';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
