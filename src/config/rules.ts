import { isIP, isIPv4 } from 'node:net';

/** How one setting is read: `parse` answers undefined for a text that is not as `expected`. */
export interface Rule<T> {
  readonly expected: string;
  readonly parse: (text: string) => T | undefined;
  /** What to do about a fault. */
  readonly remedy: string;
  /** Describes a faulty text. @default the text itself, shortened */
  readonly describe?: (text: string) => string;
}

/** DATABASE_URL. */
export const postgresUrlRule: Rule<string> = {
  expected: 'a postgres:// or postgresql:// URL',
  parse: (text) => (isUrl(text, ['postgres:', 'postgresql:']) ? text : undefined),
  remedy: 'write postgres://user:password@host:5432/database, with special characters of the password percent-encoded',
  describe: concealed,
};

/** REDIS_URL. */
export const redisUrlRule: Rule<string> = {
  expected: 'a redis:// or rediss:// URL with a host',
  parse: (text) => (isUrl(text, ['redis:', 'rediss:']) && new URL(text).host !== '' ? text : undefined),
  remedy: 'write redis://host:6379, with special characters of a password percent-encoded',
  describe: concealed,
};

/** WEBHOOK_PROXY. */
export const proxyRule: Rule<string> = {
  expected: 'an http:// or https:// URL',
  parse: (text) => (isUrl(text, ['http:', 'https:']) ? text : undefined),
  remedy: 'write http://proxy.example:3128, or unset it to send callbacks directly',
  describe: concealed,
};

/** SECRETS_KEY and SECRETS_KEY_PREVIOUS. */
export const secretsKeyRule: Rule<Buffer> = {
  expected: '32 bytes as 64 hex digits or as base64',
  parse: parseSecretsKey,
  remedy: 'make one with `npx fanfare secrets-key`',
  describe: concealed,
};

/** ADMIN_API_KEY; `describeKeyFault` says why a text is no key, without repeating it. */
export function keyRule(describeKeyFault: (text: string) => string | undefined): Rule<string> {
  return {
    expected: 'an API key (ff_<id>_<secret>_<crc>)',
    parse: (text) => (describeKeyFault(text) === undefined ? text : undefined),
    remedy: 'make one with `npx fanfare key new`',
    describe: (text) => describeKeyFault(text) ?? 'an API key',
  };
}

/** HOST. */
export const hostRule: Rule<string> = {
  expected: 'an IP address or a host name',
  parse: (text) => (isIP(text) !== 0 || /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(text) ? text : undefined),
  remedy: 'write 127.0.0.1, 0.0.0.0, :: or a name, without scheme, port or brackets',
};

/** DATA_DIR. */
export const folderRule: Rule<string> = {
  expected: 'the path of a folder',
  parse: (text) => (text.includes('\0') ? undefined : text),
  remedy: 'write a path, or unset it for .fanfare',
};

/** Any of the choices at least, each once, in the choices' own order. */
export function someOf<T extends string>(choices: readonly T[]): Rule<readonly T[]> {
  return {
    expected: `a list out of ${choices.join(',')}`,
    parse: (text) => {
      const asked = list(text);
      if (asked.length === 0 || !asked.every((name) => choices.some((choice) => choice === name))) return undefined;
      return choices.filter((choice) => asked.includes(choice));
    },
    remedy: 'separate them by commas, or unset it for all',
  };
}

/** CORS_ORIGINS. */
export const originsRule: Rule<readonly string[]> = {
  expected: 'a list of origins',
  parse: (text) => parseEach(text, parseOrigin),
  remedy: 'write each as https://shop.example or http://localhost:3000, without a path, separated by commas',
  describe: quoteUrl,
};

/** GRAPHIQL. */
export const switchRule: Rule<boolean> = {
  expected: 'on or off',
  parse: (text) => {
    const word = text.toLowerCase();
    if (['on', 'true', '1'].includes(word)) return true;
    return ['off', 'false', '0'].includes(word) ? false : undefined;
  },
  remedy: 'write on or off, or unset it for on',
};

/** PUBLIC_URL. */
export const publicUrlRule: Rule<string> = {
  expected: 'an absolute http:// or https:// URL without user, query and fragment',
  parse: (text) => {
    if (!isUrl(text, ['http:', 'https:'])) return undefined;
    const { username, password, href } = new URL(text);
    return username || password || /[?#]/.test(text) ? undefined : href.replace(/\/+$/, '');
  },
  remedy: 'write the address clients use, such as https://api.shop.example',
  describe: quoteUrl,
};

/** WEBHOOK_ALLOW_CIDRS. */
export const cidrsRule: Rule<readonly string[]> = {
  expected: 'a list of CIDR ranges',
  parse: (text) => parseEach(text, parseCidr),
  remedy: 'write each as 10.0.0.0/8 or fd00::/8, separated by commas',
};

/** WEBHOOK_DNS_SERVERS. */
export const dnsServersRule: Rule<readonly string[]> = {
  expected: 'a list of ip or ip:port',
  parse: (text) => parseEach(text, parseDnsServer),
  remedy: 'write each as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53, separated by commas',
};

/** One of the choices, in any case. */
export function oneOf<T extends string>(choices: readonly T[], { unset }: { readonly unset: T }): Rule<T> {
  return {
    expected: `one of ${choices.join(', ')}`,
    parse: (text) => choices.find((choice) => choice === text.toLowerCase()),
    remedy: `correct it, or unset it for ${unset}`,
  };
}

/** Decimal digits only. */
export function wholeNumber({
  from,
  to,
  unset,
}: {
  readonly from: number;
  readonly to: number;
  readonly unset: string;
}): Rule<number> {
  return {
    expected: `a whole number from ${from} to ${to}`,
    parse: (text: string) => {
      const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
      return value >= from && value <= to ? value : undefined;
    },
    remedy: `correct it, or unset it for ${unset}`,
  };
}

function list(text: string): string[] {
  return text.split(',').flatMap((item) => item.trim() || []);
}

/** Undefined if any item is wrong; items that come twice are kept once. */
function parseEach(text: string, parse: (item: string) => string | undefined): readonly string[] | undefined {
  const items = list(text).map(parse);
  return items.every((item) => item !== undefined) ? [...new Set(items)] : undefined;
}

/** The scheme fits, and user and password decode (drivers throw on a stray `%` only when they connect). */
function isUrl(text: string, protocols: readonly string[]): boolean {
  const url = URL.parse(text);
  if (url === null || !protocols.includes(url.protocol) || !/^[a-z]+:\/\//i.test(text)) return false;
  try {
    decodeURIComponent(url.username + url.password);
    return true;
  } catch {
    return false;
  }
}

function parseOrigin(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return undefined;
  // Browsers send origins in this normal form, so a default port or an upper-case name would never match.
  return url.href === `${url.origin}/` ? url.origin : undefined;
}

function parseCidr(text: string): string | undefined {
  const [, address, prefix] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  if (address === undefined || isIP(address) === 0) return undefined;
  const bits = isIPv4(address) ? 32 : 128;
  return Number(prefix ?? bits) <= bits ? `${address}/${Number(prefix ?? bits)}` : undefined;
}

function parseDnsServer(text: string): string | undefined {
  if (isIP(text) !== 0) return text;
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const version = v6 === undefined ? 4 : 6;
  if (isIP(v6 ?? v4 ?? '') !== version) return undefined;
  return port === undefined || (Number(port) >= 1 && Number(port) <= 65_535) ? text : undefined;
}

/** A faulty text as it is shown: escaped, at most 100 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

/** A URL may be a password's hiding place even where none belongs. */
function quoteUrl(text: string): string {
  return quote(text.replace(/\/\/[^/]*@/g, '//…@'));
}

function concealed(text: string): string {
  return `another value, ${text.length} characters long (not shown, for it may be secret)`;
}

/**
 * The 32 bytes of a secrets key written as 64 hex digits or as base64 (either alphabet, padding optional), or undefined.
 * Also reads the data folder's key file.
 */
export function parseSecretsKey(text: string): Buffer | undefined {
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex');
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined;
  return Buffer.from(text, 'base64');
}
