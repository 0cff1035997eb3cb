import { EngineError } from '../errors.ts';
import type { HeaderChanges } from './custom-headers.ts';
import { SealError, type Sealer } from './seal.ts';
import type { Webhook } from './webhook.ts';

/** Custom headers of one webhook. */
export const MAX_HEADERS = 20;
/** Their names and values together: many receivers take 8 KiB of headers in all. */
export const MAX_HEADER_CHARACTERS = 4_000;

/** As a webhook's row keeps its headers: names are shown, values are sealed. */
export type HeaderColumns = Pick<Webhook, 'header_names' | 'has_basic_auth' | 'sealed_headers'>;

/** What is sealed. */
export interface OpenHeaders {
  /** Values by name in lower case. */
  readonly custom: Readonly<Record<string, string>>;
  /** The value of `authorization`. */
  readonly basicAuth: string | null;
}

const NONE: OpenHeaders = { custom: {}, basicAuth: null };
const NO_COLUMNS: HeaderColumns = { header_names: [], has_basic_auth: false, sealed_headers: null };

export interface HeaderRevision {
  /** The webhook's. */
  readonly id: string;
  /** Undefined for a webhook that is being made. */
  readonly before?: HeaderColumns | undefined;
  readonly changes: HeaderChanges;
  /** Whoever points a webhook elsewhere would learn what is sent there: nothing may stay then. */
  readonly movesTo?: string | undefined;
}

/**
 * Makes the columns of a webhook whose headers change; undefined if they stay as they are.
 * @throws EngineError BAD_INPUT if they are too many or too long together, for `authorization` beside basic auth, and for a
 * webhook that moves if any would stay; CONFLICT if what stays can't be opened
 */
export function reviseHeaders(sealer: Sealer, revision: HeaderRevision): HeaderColumns | undefined {
  const { id, before = NO_COLUMNS, changes, movesTo } = revision;
  const staying = before.header_names.filter((name) => !changes.custom.has(name));
  const basicAuthStays = before.has_basic_auth && changes.basicAuth === undefined;
  if (movesTo !== undefined) requireNoneStays(basicAuthStays ? [...staying, 'basicAuth'] : staying);
  if (changes.custom.size === 0 && changes.basicAuth === undefined) return undefined;
  const needsOld = staying.length > 0 || basicAuthStays;
  const old = needsOld ? openOld(sealer, { id, sealed_headers: before.sealed_headers }) : NONE;
  const kept = staying.map((name) => [name, old.custom[name] ?? ''] as const);
  const given = [...changes.custom].flatMap(([name, value]) => (value === null ? [] : [[name, value] as const]));
  const custom = Object.fromEntries([...kept, ...given]);
  const basicAuth = changes.basicAuth === undefined ? old.basicAuth : changes.basicAuth;
  requireFit(custom, basicAuth);
  return toColumns(sealer, id, { custom, basicAuth });
}

/** Opens what `reviseHeaders` has sealed. @throws SealError */
export function openHeaders(
  sealer: Sealer,
  { id, sealed_headers }: Pick<Webhook, 'id' | 'sealed_headers'>,
): OpenHeaders {
  // authenticated: nobody else has written it
  return sealed_headers === null ? NONE : (JSON.parse(sealer.open(sealed_headers, headerPlace(id))) as OpenHeaders);
}

/** Where a webhook's headers are sealed for: a signing secret of it, moved here, does not open. */
export function headerPlace(webhookId: string): string {
  return `${webhookId}/headers`;
}

function requireNoneStays(names: readonly string[]): void {
  if (names.length === 0) return;
  throw new EngineError(
    'BAD_INPUT',
    `with another "url" this webhook's headers must be given anew, or taken away: expected also ${names.join(', ')}`,
  );
}

function openOld(sealer: Sealer, webhook: Pick<Webhook, 'id' | 'sealed_headers'>): OpenHeaders {
  try {
    return openHeaders(sealer, webhook);
  } catch (error) {
    if (!(error instanceof SealError)) throw error;
    throw new EngineError('CONFLICT', "this webhook's headers can't be opened; give all anew, or take them away");
  }
}

function requireFit(custom: OpenHeaders['custom'], basicAuth: string | null): void {
  const entries = Object.entries(custom);
  if (basicAuth !== null && 'authorization' in custom)
    throw new EngineError('BAD_INPUT', 'the header "authorization" is refused: "basicAuth" sets it');
  if (entries.length > MAX_HEADERS)
    throw new EngineError('BAD_INPUT', `"headers": expected at most ${MAX_HEADERS}, found ${entries.length}`);
  const length = entries.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  if (length > MAX_HEADER_CHARACTERS)
    throw new EngineError(
      'BAD_INPUT',
      `"headers": expected at most ${MAX_HEADER_CHARACTERS} characters in all names and values, found ${length}`,
    );
}

function toColumns(sealer: Sealer, id: string, headers: OpenHeaders): HeaderColumns {
  const header_names = Object.keys(headers.custom).sort();
  if (header_names.length === 0 && headers.basicAuth === null) return NO_COLUMNS;
  const sealed_headers = sealer.seal(JSON.stringify(headers), headerPlace(id));
  return { header_names, has_basic_auth: headers.basicAuth !== null, sealed_headers };
}
