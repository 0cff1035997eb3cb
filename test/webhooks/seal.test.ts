import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSealer, SealError } from '../../src/webhooks/seal.ts';

const key = randomBytes(32);
const sealer = createSealer({ key });

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SealError) return error.code;
    throw error;
  }
  return 'none';
}

describe('a sealed secret', () => {
  it('opens to what was sealed, in its own place only', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, context) => {
        const sealed = sealer.seal(text, context);
        expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\.[\w-]+$/);
        expect(sealer.open(sealed, context)).toBe(text);
        expect(codeOf(() => sealer.open(sealed, `${context}x`))).toBe('TAMPERED');
      }),
    );
  });

  it('differs each time and does not show the text', () => {
    const sealed = sealer.seal('whsec_visible', 'wh_1');
    expect(sealer.seal('whsec_visible', 'wh_1')).not.toBe(sealed);
    expect(Buffer.from(sealed.split('.')[2] ?? '', 'base64url').includes('visible')).toBe(false);
  });

  it('does not open after any byte was changed', () => {
    const [version, id, text] = sealer.seal('secret', 'wh_1').split('.');
    const bytes = Buffer.from(text ?? '', 'base64url');
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      expect(codeOf(() => sealer.open(`${version}.${id}.${changed.toString('base64url')}`, 'wh_1'))).toBe('TAMPERED');
    }
  });

  it.each(['', 'v1', 'v2.00000000.AAAA', 'v1.0000000.AAAA', 'v1.00000000.AAAA', 'v1.00000000.', 'whsec_plain'])(
    'of a foreign form is told apart: %j',
    (sealed) => {
      expect(codeOf(() => sealer.open(sealed, ''))).toBe('MALFORMED');
    },
  );

  it('still opens with the previous key, and is then stale', () => {
    const rotated = createSealer({ key: randomBytes(32), previousKey: key });
    const old = sealer.seal('secret', 'wh_1');
    expect(rotated.open(old, 'wh_1')).toBe('secret');
    expect(rotated.isStale(old)).toBe(true);
    expect(rotated.isStale(rotated.seal('secret', 'wh_1'))).toBe(false);
    expect(codeOf(() => sealer.open(rotated.seal('secret', 'wh_1'), 'wh_1'))).toBe('UNKNOWN_KEY');
  });
});
