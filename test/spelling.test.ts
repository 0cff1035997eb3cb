import fc from 'fast-check';
import { expect, test } from 'vitest';
import { editDistance, nearest } from '../src/runtime/spelling.ts';

test.each([
  ['', '', 0],
  ['', 'abc', 3],
  ['port', 'port', 0],
  ['prot', 'port', 1],
  ['pot', 'port', 1],
  ['ports', 'port', 1],
  ['sort', 'port', 1],
  ['kitten', 'sitting', 3],
  ['ca', 'abc', 3],
])('%j and %j are %i edits apart', (from, to, edits) => {
  expect(editDistance(from, to)).toBe(edits);
});

test('distance is symmetric, zero only for equals, and at most the longer length', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 });
  fc.assert(
    fc.property(word, word, (from, to) => {
      const edits = editDistance(from, to);
      expect(editDistance(to, from)).toBe(edits);
      expect(edits === 0).toBe(from === to);
      expect(edits).toBeLessThanOrEqual(Math.max(from.length, to.length));
    }),
  );
});

test('the nearest candidate is one edit away, or two when it has 8 or more characters', () => {
  expect(nearest('potr', ['host', 'port'])).toBe('port');
  expect(nearest('pxxt', ['port'])).toBeUndefined();
  expect(nearest('webhok', ['webhooks'])).toBe('webhooks');
  expect(nearest('webho', ['webhooks'])).toBeUndefined();
  expect(nearest('port', ['ports', 'port'])).toBe('port');
  expect(nearest('x'.repeat(1_000_000), ['webhooks'])).toBeUndefined();
});
