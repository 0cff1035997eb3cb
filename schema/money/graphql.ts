import { builder } from '../builder.ts';

export const MoneyInput = builder.inputType('MoneyInput', {
  description: 'An exact amount of money.',
  fields: (t) => ({
    amount: t.field({
      type: 'Decimal',
      required: true,
      description: '0 or more, with at most as many digits behind the point as the currency has.',
    }),
    currency: t.string({ required: true, description: 'ISO 4217: `GBP`.' }),
  }),
});
