import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeKeyFault, hashKey, makeKey, parseKey } from '../src/identity/key-format.ts';

// The checksum was computed apart from our code, with Python's zlib.crc32.
const KNOWN = 'ff_000000000000_00000000000000000000000000000000_e2325613';

describe('an API key', () => {
  test('has the published form, and reads back as its parts', () => {
    const key = makeKey();
    expect(key).toMatch(/^ff_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}_[0-9a-f]{8}$/);
    const [, id, secret] = key.split('_');
    expect(parseKey(key)).toEqual({ id, secret });
    expect(describeKeyFault(key)).toBeUndefined();
  });

  test('matches a checksum computed elsewhere', () => {
    expect(makeKey((size) => new Uint8Array(size))).toBe(KNOWN);
    expect(parseKey(KNOWN)).toEqual({ id: '0'.repeat(12), secret: '0'.repeat(32) });
  });

  test('is made of characters that are equally likely', () => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    let offset = 0;
    const cycle = (size: number) => Uint8Array.from({ length: size }, () => everyByte[offset++ % 256] ?? 0);
    const text = Array.from({ length: 248 }, () => makeKey(cycle).slice(3, 48).replace('_', '')).join('');
    const counts = new Map<string, number>();
    for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
    expect(counts.size).toBe(62);
    // 248 keys of 44 characters are 176 even rounds of 62; bytes of 248 and more would favour the first eight.
    expect([...new Set(counts.values())]).toEqual([176]);
  });

  test('is another each time', () => {
    expect(new Set(Array.from({ length: 100 }, () => makeKey())).size).toBe(100);
  });

  test('is stored as the SHA-256 of all of it', () => {
    expect(hashKey(KNOWN)).toEqual(createHash('sha256').update(KNOWN).digest());
    expect(hashKey('abc').toString('hex')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});

describe('a text that is no key', () => {
  test('is found out when any one character of a key is changed', () => {
    fc.assert(
      fc.property(fc.nat(56), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }), (position, character) => {
        fc.pre(KNOWN[position] !== character);
        const changed = KNOWN.slice(0, position) + character + KNOWN.slice(position + 1);
        expect(parseKey(changed)).toBeUndefined();
        expect(describeKeyFault(changed)).toBeTypeOf('string');
      }),
    );
  });

  test('is refused whatever it is, with a reason that does not repeat it', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ minLength: 12 }),
          fc.string({ minLength: 9 }).map((rest) => `ff_${rest}`),
        ),
        (text) => {
          expect(parseKey(text)).toBeUndefined();
          expect(describeKeyFault(text)).not.toContain(text);
        },
      ),
    );
  });

  test.each([
    ['', 'does not begin with ff_'],
    [`${KNOWN}\n`, '58 characters where a key has 57'],
    [` ${KNOWN}`, 'does not begin with ff_'],
    [KNOWN.slice(0, -1), '56 characters'],
    [KNOWN.replace('0_0', '0-0'), 'a character that no key has'],
    [KNOWN.toUpperCase().replace('FF_', 'ff_'), 'a character that no key has'],
    [KNOWN.replace('000_', '001_'), 'a wrong checksum'],
  ])('%j is told why: %s', (text, why) => {
    expect(parseKey(text)).toBeUndefined();
    expect(describeKeyFault(text)).toContain(why);
  });
});
