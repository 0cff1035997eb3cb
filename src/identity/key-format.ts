import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const FORM = /^ff_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})_([0-9a-f]{8})$/;
const KEY_LENGTH = 57;

/** The two parts of an API key: `id` is public and looked up, `secret` is what its holder proves. */
export interface ParsedKey {
  /** 12 base62 characters. */
  readonly id: string;
  /** 32 base62 characters: 190 bits. Never log it. */
  readonly secret: string;
}

/**
 * Makes an API key: `ff_<id>_<secret>_<crc>`, 57 characters.
 * `random` gives that many unpredictable bytes; its default is the operating system's.
 */
export function makeKey(random: (size: number) => Uint8Array = randomBytes): string {
  const body = `ff_${randomBase62(12, random)}_${randomBase62(32, random)}`;
  return `${body}_${checksum(body)}`;
}

/**
 * The parts of a key, or undefined if the text is not of a key's form or its checksum is wrong. Says nothing about
 * whether the key exists: the checksum finds typing mistakes and truncation, it protects nothing.
 */
export function parseKey(text: string): ParsedKey | undefined {
  const [, id, secret, crc] = FORM.exec(text) ?? [];
  if (id === undefined || secret === undefined || crc !== checksum(`ff_${id}_${secret}`)) return undefined;
  return { id, secret };
}

/** SHA-256 of the whole key, 32 bytes: what is stored. A plain hash serves, for the secret is 190 random bits. */
export function hashKey(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

/**
 * Why `parseKey` refuses a text, as the end of a sentence ("found …"), or undefined for a good key.
 * Never repeats any of the text, which may be a secret of another kind.
 */
export function describeKeyFault(text: string): string | undefined {
  if (parseKey(text) !== undefined) return undefined;
  if (!text.startsWith('ff_')) return 'a value that does not begin with ff_';
  if (text.length !== KEY_LENGTH) return `${text.length} characters where a key has ${KEY_LENGTH}`;
  if (!FORM.test(text)) return 'a character that no key has in that place';
  return 'a wrong checksum, so a character was changed or two were swapped';
}

function checksum(body: string): string {
  return crc32(body).toString(16).padStart(8, '0');
}

/** Bytes of 248 and above are thrown away: 248 is the largest multiple of 62 in a byte, so every character is as likely. */
function randomBase62(length: number, random: (size: number) => Uint8Array): string {
  let text = '';
  while (text.length < length) {
    for (const byte of random(length - text.length)) if (byte < 248) text += BASE62.charAt(byte % 62);
  }
  return text;
}
