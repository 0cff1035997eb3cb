import { EngineError } from '#engine';

interface TextRule {
  readonly field: string;
  readonly max: number;
}

interface RangeRule {
  readonly field: string;
  readonly min: number;
  readonly max: number;
}

/** Text without blanks around it: 1 to `max` characters, none of them invisible. */
export function checkText(text: string, { field, max }: TextRule): string {
  const trimmed = text.trim();
  if (trimmed.length < 1 || trimmed.length > max) {
    throw new EngineError('BAD_INPUT', `${field}: expected 1 to ${max} characters, found ${trimmed.length}`);
  }
  if (/\p{Cc}/u.test(trimmed) || !trimmed.isWellFormed()) {
    throw new EngineError(
      'BAD_INPUT',
      `${field}: expected visible characters, found ${quote(trimmed)}; remove the others`,
    );
  }
  return trimmed;
}

/** A value of an update: left out it keeps what was, and null is no value where one is needed. */
export function notNull<T>(value: T | null | undefined, field: string): T | undefined {
  if (value === null)
    throw new EngineError('BAD_INPUT', `${field}: expected a value, found null; leave it out to keep it`);
  return value;
}

/** A whole number within bounds. */
export function checkRange(value: number, { field, min, max }: RangeRule): number {
  if (value < min || value > max) {
    throw new EngineError('BAD_INPUT', `${field}: expected ${min} to ${max}, found ${value}`);
  }
  return value;
}

/** What was found, short enough for a message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
