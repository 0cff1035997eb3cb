import { isIP } from 'node:net';
import { domainToUnicode } from 'node:url';
import type { AddressPolicy } from './addresses.ts';

/** Why a callback URL is refused. The codes are stable, in logs: clients are told none. */
export type CallbackRefusalReason =
  | 'SYNTAX'
  | 'SCHEME'
  | 'USERINFO'
  | 'PORT'
  | 'OWN_URL'
  | 'HOST_NOT_PUBLIC_NAME'
  | 'IP_NOT_GLOBAL'
  | 'DNS_NOT_GLOBAL'
  | 'DNS_EMPTY'
  | 'DNS_FAILED';

/** The one text for every refusal: which address was found, and what listens there, is nobody's business. */
export const CALLBACK_REFUSED_MESSAGE =
  "the callback URL is refused: expected https, without user or fragment, a host whose addresses are all public, port 443 or one from 1024 on that no common service has; other addresses are the operator's to allow, by WEBHOOK_ALLOW_CIDRS";

export interface CallbackUrlAccepted {
  readonly ok: true;
  readonly url: URL;
  /** The host as sockets and resolvers take it: no brackets, no trailing dot. */
  readonly host: string;
  /**
   * Set when the text alone breaks this rule and is fine only if every address of the host is one of the
   * operator's allowed ones: plain http, a service port, a name that is not public.
   */
  readonly unlessAllowed: CallbackRefusalReason | undefined;
}

export interface CallbackUrlRefused {
  readonly ok: false;
  readonly reason: CallbackRefusalReason;
}

/**
 * Checks the text of a callback URL, without asking a name server.
 *
 * The raw text is judged before it is parsed, because parsers drop tabs, turn backslashes into slashes and guess missing
 * ones; the parsed host is judged after, because only then all spellings of an address (octal, hexadecimal, full-width,
 * percent-encoded) look alike. What passes here may still resolve inward: use the guard's `check`.
 *
 * @see https://url.spec.whatwg.org/#host-parsing
 */
export function checkCallbackUrl(raw: string, policy: AddressPolicy): CallbackUrlAccepted | CallbackUrlRefused {
  const textFault = findTextFault(raw);
  if (textFault !== undefined) return { ok: false, reason: textFault };
  const url = URL.parse(raw);
  if (url === null || hasInvalidPunycode(url.hostname)) return { ok: false, reason: 'SYNTAX' };
  const host = url.hostname.replace(/^\[|\]$|\.$/g, '');
  return isIP(host) === 0 ? checkName(url, host, policy) : checkLiteral(url, host, policy);
}

function checkLiteral(url: URL, host: string, policy: AddressPolicy): CallbackUrlAccepted | CallbackUrlRefused {
  if (policy.isAllowed(host)) return { ok: true, url, host, unlessAllowed: undefined };
  const reason = findTransportFault(url) ?? (policy.permits(host) ? undefined : 'IP_NOT_GLOBAL');
  return reason === undefined ? { ok: true, url, host, unlessAllowed: undefined } : { ok: false, reason };
}

function checkName(url: URL, host: string, policy: AddressPolicy): CallbackUrlAccepted | CallbackUrlRefused {
  const fault = findTransportFault(url) ?? (isPublicName(host) ? undefined : 'HOST_NOT_PUBLIC_NAME');
  if (fault !== undefined && !policy.allowsAny) return { ok: false, reason: fault };
  if (!isWellFormedName(host)) return { ok: false, reason: 'HOST_NOT_PUBLIC_NAME' };
  return { ok: true, url, host, unlessAllowed: fault };
}

/** The rules on the raw text, in the order in which their codes win. */
function findTextFault(raw: string): CallbackRefusalReason | undefined {
  if (raw.length > MAX_URL_LENGTH || !raw.isWellFormed()) return 'SYNTAX';
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(raw)?.[1];
  if (scheme === undefined) return 'SYNTAX';
  if (!/^https?$/i.test(scheme)) return 'SCHEME';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u0020\u007f\\#]/.test(raw)) return 'SYNTAX';
  // RFC 3986 allows capitals in a scheme, but no program writes them: one spelling leaves nothing to disagree on.
  const authority = /^https?:\/\/([^/?]+)/.exec(raw)?.[1];
  if (authority === undefined) return 'SYNTAX';
  if (authority.includes('@')) return 'USERINFO';
  return authority.includes('%') ? 'SYNTAX' : undefined;
}

function findTransportFault(url: URL): CallbackRefusalReason | undefined {
  if (url.protocol !== 'https:') return 'SCHEME';
  const port = url.port === '' ? 443 : Number(url.port);
  return port === 443 || (port >= 1024 && !SERVICE_PORTS.has(port)) ? undefined : 'PORT';
}

/** `new URL` keeps an A-label that decodes to nothing (`xn--a`); ICU gives such a label back unchanged. */
function hasInvalidPunycode(hostname: string): boolean {
  return hostname.split('.').some((label) => label.startsWith('xn--') && domainToUnicode(label) === label);
}

function isPublicName(name: string): boolean {
  const labels = name.split('.');
  return labels.length > 1 && !PRIVATE_TOP_LEVEL_NAMES.has(labels.at(-1) ?? '');
}

/** Letters, digits, hyphens and underscores in labels of 1 to 63, 253 in all (RFC 1035 section 2.3.4). */
function isWellFormedName(name: string): boolean {
  return name.length <= 253 && name.split('.').every((label) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/.test(label));
}

const MAX_URL_LENGTH = 2_048;

/** Ports above 1023 where databases, brokers, caches and orchestrators listen and read HTTP as commands of their own. */
const SERVICE_PORTS: ReadonlySet<number> = new Set([
  1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5433, 5672, 5900, 5984, 6379, 6380, 6443, 7000,
  7001, 8086, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 15672, 25672, 27017, 27018, 50070,
]);

/**
 * Names no public resolver should answer for: IANA's special-use registry (RFC 6761, 6762, 7686, 9476), what ICANN keeps
 * out of the root for private use (internal, corp, home, mail), and what home routers and clusters use inside.
 *
 * @see https://www.iana.org/assignments/special-use-domain-names
 */
const PRIVATE_TOP_LEVEL_NAMES: ReadonlySet<string> = new Set([
  ...['alt', 'arpa', 'example', 'invalid', 'local', 'localhost', 'onion', 'test'],
  ...['corp', 'home', 'internal', 'mail'],
  ...['cluster', 'consul', 'docker', 'domain', 'intra', 'intranet', 'kubernetes', 'lan', 'localdomain', 'localnet'],
  ...['priv', 'private', 'svc', 'workgroup'],
]);
