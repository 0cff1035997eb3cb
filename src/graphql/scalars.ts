import { GraphQLScalarType } from 'graphql';

/** A moment: ISO 8601 in UTC with milliseconds, on the way in with any offset. */
export const DateTimeScalar = new GraphQLScalarType<Date, string>({
  name: 'DateTime',
  description: 'A moment, as ISO 8601 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`.',
  specifiedByURL: 'https://scalars.graphql.org/andimarek/date-time.html',
  serialize: (value) => toDate(value).toISOString(),
  parseValue: toDate,
});

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

/** What `DateTime` takes. @throws TypeError for all else */
export function toDate(value: unknown): Date {
  const date =
    value instanceof Date ? value : new Date(typeof value === 'string' && isMoment(value) ? value : Number.NaN);
  if (Number.isNaN(date.getTime())) throw new TypeError('expected a moment such as "2026-01-31T12:00:00.000Z"');
  return date;
}

/** JavaScript takes the 31st of February for the 3rd of March. */
function isMoment(text: string): boolean {
  if (!ISO.test(text)) return false;
  const [year = 0, month = 0, day = 0] = text.slice(0, 10).split('-').map(Number);
  const date = new Date(Date.UTC(year, month - 1, day));
  return year >= 1 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

/** An exact decimal number as text. */
export const DecimalScalar = new GraphQLScalarType<string, string>({
  name: 'Decimal',
  description: 'An exact decimal number as text: `"12.50"`.',
  serialize: toDecimal,
  parseValue: toDecimal,
});

function toDecimal(value: unknown): string {
  if (typeof value === 'string' && /^-?\d{1,30}(\.\d{1,18})?$/.test(value)) return value;
  throw new TypeError('expected a decimal number as text, such as "12.50"');
}

/** Any JSON value. */
export const JsonScalar = new GraphQLScalarType<unknown, unknown>({
  name: 'JSON',
  description: 'Any JSON value.',
  // here, so that it is an error of its field: written later it would be one of the whole answer, or stream
  serialize(value) {
    if (JSON.stringify(value) === undefined) throw new TypeError(`expected a JSON value, found a ${typeof value}`);
    return value;
  },
  parseValue: (value) => value,
});
