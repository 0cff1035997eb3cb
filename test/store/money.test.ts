import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CURRENCIES } from '../../schema/money/currencies.ts';
import { fromMinor, toMinor, totalMinor } from '../../schema/money/money.ts';

const currencies = fc.constantFrom(...CURRENCIES.keys());
const minors = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

describe('money', () => {
  it('comes back from text as the same minor units, in every currency', () => {
    const property = fc.property(minors, currencies, (minor, currency) => {
      expect(toMinor(fromMinor({ minor, currency }), 'price')).toEqual({ minor, currency });
    });
    fc.assert(property, { numRuns: 2_000 });
  });

  it('is written with all digits of its currency', () => {
    expect(fromMinor({ minor: 5, currency: 'GBP' })).toEqual({ amount: '0.05', currency: 'GBP' });
    expect(fromMinor({ minor: 1250, currency: 'JPY' })).toEqual({ amount: '1250', currency: 'JPY' });
    expect(fromMinor({ minor: 1, currency: 'KWD' })).toEqual({ amount: '0.001', currency: 'KWD' });
    expect(fromMinor({ minor: 12345, currency: 'CLF' })).toEqual({ amount: '1.2345', currency: 'CLF' });
  });

  it('is read with fewer digits than its currency has', () => {
    expect(toMinor({ amount: '2', currency: 'GBP' }, 'price')).toEqual({ minor: 200, currency: 'GBP' });
    expect(toMinor({ amount: '0002.5', currency: 'GBP' }, 'price')).toEqual({ minor: 250, currency: 'GBP' });
  });

  it('is added up exactly, or refused where it does not fit', () => {
    const lines = fc.array(fc.record({ quantity: fc.integer({ min: 1, max: 1_000_000 }), unit_price_minor: minors }), {
      minLength: 1,
      maxLength: 20,
    });
    const property = fc.property(lines, (each) => {
      const exact = each.reduce((sum, line) => sum + BigInt(line.quantity) * BigInt(line.unit_price_minor), 0n);
      if (exact <= BigInt(Number.MAX_SAFE_INTEGER)) expect(BigInt(totalMinor(each, 'total'))).toBe(exact);
      else expect(() => totalMinor(each, 'total')).toThrow('total: expected less than 2^53 minor units');
    });
    fc.assert(property, { numRuns: 1_000 });
  });

  it('keeps a sum that floating point would lose', () => {
    const lines = [
      { quantity: 1, unit_price_minor: 9_007_199_254_740_990 },
      { quantity: 1, unit_price_minor: 1 },
    ];
    expect(totalMinor(lines, 'total')).toBe(9_007_199_254_740_991);
    expect(() => totalMinor([...lines, { quantity: 1, unit_price_minor: 1 }], 'total')).toThrow('2^53');
  });

  it.each([
    ['1.005', 'GBP', 'at most 2 digits'],
    ['1.0', 'JPY', 'at most 0 digits'],
    ['-1', 'GBP', 'expected 0 or more'],
    ['90071992547409.92', 'GBP', 'less than 2^53'],
    ['9'.repeat(30), 'GBP', 'less than 2^53'],
    ['1', 'XXX', 'expected an ISO 4217 code such as "GBP", found "XXX"'],
    ['1', 'gbp', 'expected an ISO 4217 code'],
    ['1', 'A'.repeat(10_000), 'found "AAAA'],
  ])('refuses %s %s', (amount, currency, message) => {
    expect(() => toMinor({ amount, currency }, 'price')).toThrow(message);
    expect(() => toMinor({ amount, currency }, 'price')).toThrow(expect.objectContaining({ code: 'BAD_INPUT' }));
  });
});
