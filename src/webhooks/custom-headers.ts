import { EngineError } from '../errors.ts';
import { findNameFault, findValueFault } from './header-rules.ts';

const MAX_CREDENTIAL_LENGTH = 255;

/** What a webhook's maker gives, as GraphQL has coerced it. */
export interface HeaderInput {
  /** Values by name; null takes the header away. */
  readonly headers?: unknown;
  /** Without either part it is taken away. */
  readonly basicAuth?: BasicAuthInput | null | undefined;
}

export interface BasicAuthInput {
  readonly username?: string | null | undefined;
  readonly password?: string | null | undefined;
}

/** What is to change of a webhook's headers. */
export interface HeaderChanges {
  /** Values by name in lower case; null: it goes; what is not named stays. */
  readonly custom: ReadonlyMap<string, string | null>;
  /** The value of `authorization`; null: it goes; undefined: it stays. */
  readonly basicAuth: string | null | undefined;
}

/**
 * Checks the headers that a webhook's maker gives, each by itself.
 * @throws EngineError BAD_INPUT naming the header and why, never its value
 */
export function checkHeaders({ headers, basicAuth }: HeaderInput): HeaderChanges {
  return { custom: checkCustom(headers ?? {}), basicAuth: basicAuth ? toAuthorization(basicAuth) : undefined };
}

function checkCustom(headers: unknown): HeaderChanges['custom'] {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
    throw new EngineError('BAD_INPUT', '"headers" must be an object of values by name, such as {"x-api-key": "…"}');
  const custom = new Map<string, string | null>();
  for (const [given, value] of Object.entries(headers)) {
    const name = given.toLowerCase();
    const fault = findNameFault(name) ?? (value === null ? undefined : findValueFault(value));
    if (fault !== undefined) throw refused(given, fault);
    if (custom.has(name)) throw refused(given, 'it is given twice');
    custom.set(name, value);
  }
  return custom;
}

function refused(name: string, fault: string): EngineError {
  return new EngineError('BAD_INPUT', `the header ${JSON.stringify(name.slice(0, 80))} is refused: ${fault}`);
}

/** RFC 7617 section 2: the first colon ends the user's name. */
function toAuthorization({ username, password }: BasicAuthInput): string | null {
  const user = checkCredential('username', username ?? '');
  const secret = checkCredential('password', password ?? '');
  if (user === '' && secret === '') return null;
  if (user.includes(':')) throw new EngineError('BAD_INPUT', 'basicAuth.username: expected no colon in it');
  return `Basic ${Buffer.from(`${user}:${secret}`, 'utf8').toString('base64')}`;
}

function checkCredential(name: string, text: string): string {
  if (text.length <= MAX_CREDENTIAL_LENGTH && !/\p{Cc}/u.test(text) && text.isWellFormed()) return text;
  throw new EngineError(
    'BAD_INPUT',
    `basicAuth.${name}: expected at most ${MAX_CREDENTIAL_LENGTH} characters, none of them a control character`,
  );
}
