import { EngineError } from '../errors.ts';

/** Whether Postgres takes a text as it is: it has no U+0000, and no half of a surrogate pair is UTF-8. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** The text, cut, as Postgres takes it: U+FFFD stands for what it does not take, such as half of a pair that the cut has left. */
export function toStorable(text: string, maxLength: number): string {
  return text.slice(0, maxLength).toWellFormed().replaceAll('\0', '\ufffd');
}

/**
 * Looks through a text, or all names and texts of a JSON value.
 * @param name of the input field, for the message
 * @throws EngineError BAD_INPUT for what can't be stored
 */
export function requireStorable(name: string, value: unknown): void {
  JSON.stringify(value, (key: string, part: unknown) => {
    if (isStorable(key) && (typeof part !== 'string' || isStorable(part))) return part;
    throw new EngineError(
      'BAD_INPUT',
      `"${name}" has a character that can't be stored: U+0000 or half a surrogate pair`,
    );
  });
}
