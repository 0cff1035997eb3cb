import { isIPv4 } from 'node:net';
import {
  cidrsRule,
  dnsServersRule,
  folderRule,
  hostRule,
  keyRule,
  oneOf,
  originsRule,
  postgresUrlRule,
  proxyRule,
  publicUrlRule,
  quote,
  type Rule,
  redisUrlRule,
  secretsKeyRule,
  someOf,
  switchRule,
  wholeNumber,
} from './config/rules.ts';
import { StartupError } from './errors.ts';

/** Which duties a process takes on: serve clients, run the sequencers, send webhooks. */
export const ROLES = ['api', 'relay', 'webhooks'] as const;
export type Role = (typeof ROLES)[number];

/** From everything to nothing. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * All settings, parsed once; frozen to the leaves (but for key bytes, which can't be). Holds secrets: never log it whole.
 * `mode` tells which of the three it is: `embedded` (neither URL: PGlite and memory in this process), `single` (only
 * DATABASE_URL: one process with all roles) or `cluster` (both URLs: any number of processes).
 */
export type Config = EmbeddedConfig | SingleConfig | ClusterConfig;

export interface EmbeddedConfig extends CommonConfig {
  readonly mode: 'embedded';
  /** SECRETS_KEY, 32 bytes; undefined where the data folder's own key file serves. */
  readonly secretsKey: Buffer | undefined;
}

export interface SingleConfig extends CommonConfig {
  readonly mode: 'single';
  /** DATABASE_URL: a `postgres:` or `postgresql:` URL. A secret: it may hold a password. */
  readonly databaseUrl: string;
  /** SECRETS_KEY, 32 bytes: encrypts stored secrets, derives the cursor key. */
  readonly secretsKey: Buffer;
}

export interface ClusterConfig extends Omit<SingleConfig, 'mode'> {
  readonly mode: 'cluster';
  /** REDIS_URL: a `redis:` or `rediss:` URL. A secret: it may hold a password. */
  readonly redisUrl: string;
}

export interface CommonConfig {
  /** PORT: TCP port of the HTTP server, 0 for any free one. @default 4000 */
  readonly port: number;
  /** HOST: address or name the HTTP server binds to. @default '127.0.0.1' */
  readonly host: string;
  /** DATA_DIR: folder of the embedded database and its key files, as given; unused with a DATABASE_URL. @default '.fanfare' */
  readonly dataDir: string;
  /** ROLES: at least one, each once, in the order of `ROLES`; all of them unless `cluster`. @default all */
  readonly roles: readonly Role[];
  /** ADMIN_API_KEY: of a key's form, checksum included; undefined if unset. A secret. */
  readonly adminApiKey: string | undefined;
  /** SECRETS_KEY_PREVIOUS: 32 bytes that still decrypt what an older SECRETS_KEY encrypted; undefined if unset. */
  readonly secretsKeyPrevious: Buffer | undefined;
  /** RETENTION_DAYS: days for which events are kept, 7 to 36,500. @default 30 */
  readonly retentionDays: number;
  readonly webhooks: WebhookConfig;
  /** CORS_ORIGINS: origins whose pages may call from a browser, `https://shop.example`. @default none */
  readonly corsOrigins: readonly string[];
  /** GRAPHIQL: whether a browser's GET /graphql shows GraphiQL. @default true */
  readonly graphiql: boolean;
  /** PUBLIC_URL: the http(s) address clients know this server by, without a slash at its end; undefined if unset. */
  readonly publicUrl: string | undefined;
  /** CONNECTIONS_PER_KEY: WebSockets and event streams that one key may hold, over all processes, 1 to 1,000,000. @default 10_000 */
  readonly connectionsPerKey: number;
  /** DRAIN_SECONDS: seconds a stopping process gives to the work in hand, 0 to 3,600. @default 10 */
  readonly drainSeconds: number;
  /** LOG_LEVEL: the least level that is logged. @default 'info' */
  readonly logLevel: LogLevel;
}

export interface WebhookConfig {
  /**
   * WEBHOOK_ALLOW_CIDRS: ranges in which a callback may be plain http on any port; a bare address stands for itself alone.
   * @default loopback if HOST is loopback and there is no DATABASE_URL, else none; set and empty is none
   */
  readonly allowCidrs: readonly string[];
  /** True if `allowCidrs` is loopback because nothing was set: the banner says so. */
  readonly allowsLoopbackByDefault: boolean;
  /** WEBHOOK_DNS_SERVERS: `ip` or `ip:port` (`[ip]:port` for IPv6) of the resolvers for callback names. @default the system's */
  readonly dnsServers: readonly string[];
  /** WEBHOOK_PROXY: http(s) URL of the proxy callbacks go through; undefined if unset. A secret: it may hold a password. */
  readonly proxyUrl: string | undefined;
  /** WEBHOOKS_PER_ACCOUNT: webhooks that an account may have, 1 to 100,000. @default 1_000 */
  readonly perAccount: number;
  /** WEBHOOKS_PER_ORIGIN: webhooks that an account may have at one origin, 1 to 100,000. @default 20 */
  readonly perOrigin: number;
  /** WEBHOOK_ORIGIN_RATE: requests begun per second to one origin, for all accounts, by each process, 1 to 1,000,000. @default 1_000 */
  readonly originRate: number;
}

/** What reading the settings needs of other rooms, which this one may not import. */
export interface ConfigChecks {
  /** Why a text is no API key, without repeating it; undefined if it is one (`identity/key-format.ts`). */
  readonly describeKeyFault: (text: string) => string | undefined;
  /** The near candidate of a misspelt word (`runtime/spelling.ts`). */
  readonly nearest: (word: string, candidates: Iterable<string>) => string | undefined;
}

/**
 * Reads every setting from the environment, ignoring names it does not know, unless one looks like a misspelling.
 * Blank is unset (but for WEBHOOK_ALLOW_CIDRS); space around a value does not count.
 *
 * @throws StartupError naming every fault at once, without any secret's value
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>, checks: ConfigChecks): Config {
  const faults: string[] = [];
  const read = createReader(env, faults);
  const databaseUrl = read('DATABASE_URL', postgresUrlRule);
  const redisUrl = read('REDIS_URL', redisUrlRule);
  const secretsKey = read('SECRETS_KEY', secretsKeyRule);
  const common = readCommon(read, { env, checks });
  faults.push(...modeFaults(env, common.roles), ...unsupported(env), ...misspelt(env, checks.nearest));
  if (faults.length > 0) throw new StartupError(listFaults(faults));
  if (databaseUrl === undefined) return deepFreeze({ ...common, mode: 'embedded', secretsKey });
  // The fault is reported by `modeFaults`; this narrows the type.
  if (secretsKey === undefined) throw new StartupError('SECRETS_KEY is missing');
  if (redisUrl === undefined) return deepFreeze({ ...common, mode: 'single', databaseUrl, secretsKey });
  return deepFreeze({ ...common, mode: 'cluster', databaseUrl, redisUrl, secretsKey });
}

type Env = Readonly<Record<string, string | undefined>>;
type Read = <T>(name: SettingName, rule: Rule<T>) => T | undefined;
type SettingName = (typeof SETTINGS)[number];

const SETTINGS = [
  'PORT',
  'HOST',
  'DATABASE_URL',
  'REDIS_URL',
  'DATA_DIR',
  'ROLES',
  'ADMIN_API_KEY',
  'SECRETS_KEY',
  'SECRETS_KEY_PREVIOUS',
  'RETENTION_DAYS',
  'WEBHOOK_ALLOW_CIDRS',
  'WEBHOOK_DNS_SERVERS',
  'WEBHOOK_PROXY',
  'WEBHOOKS_PER_ACCOUNT',
  'WEBHOOKS_PER_ORIGIN',
  'WEBHOOK_ORIGIN_RATE',
  'CORS_ORIGINS',
  'GRAPHIQL',
  'PUBLIC_URL',
  'TRUSTED_PROXIES',
  'OAUTH_ISSUERS',
  'TRUSTED_DOCUMENTS',
  'CONNECTIONS_PER_KEY',
  'DRAIN_SECONDS',
  'LOG_LEVEL',
] as const;

/** Names of the design that this version does not serve: setting one must not look as if it worked. */
const UNSUPPORTED: readonly SettingName[] = ['OAUTH_ISSUERS', 'TRUSTED_DOCUMENTS', 'TRUSTED_PROXIES'];

const LOOPBACK_CIDRS = ['127.0.0.0/8', '::1/128'];

function createReader(env: Env, faults: string[]): Read {
  return (name, rule) => {
    const text = setting(env, name);
    if (text === undefined) return undefined;
    const value = rule.parse(text);
    if (value === undefined) {
      const found = (rule.describe ?? quote)(text);
      faults.push(`${name}: expected ${rule.expected}, found ${found}; ${rule.remedy}`);
    }
    return value;
  };
}

/** A setting's text without space around it, or undefined where it is unset or blank. */
function setting(env: Env, name: SettingName): string | undefined {
  return env[name]?.trim() || undefined;
}

function readCommon(read: Read, { env, checks }: { readonly env: Env; readonly checks: ConfigChecks }): CommonConfig {
  const host = read('HOST', hostRule) ?? '127.0.0.1';
  return {
    port: read('PORT', wholeNumber({ from: 0, to: 65_535, unset: '4000' })) ?? 4000,
    host,
    dataDir: read('DATA_DIR', folderRule) ?? '.fanfare',
    roles: read('ROLES', someOf(ROLES)) ?? ROLES,
    adminApiKey: read('ADMIN_API_KEY', keyRule(checks.describeKeyFault)),
    secretsKeyPrevious: read('SECRETS_KEY_PREVIOUS', secretsKeyRule),
    retentionDays: read('RETENTION_DAYS', wholeNumber({ from: 7, to: 36_500, unset: '30' })) ?? 30,
    webhooks: readWebhooks(read, { env, host }),
    corsOrigins: read('CORS_ORIGINS', originsRule) ?? [],
    graphiql: read('GRAPHIQL', switchRule) ?? true,
    publicUrl: read('PUBLIC_URL', publicUrlRule),
    connectionsPerKey: read('CONNECTIONS_PER_KEY', wholeNumber({ from: 1, to: 1_000_000, unset: '10000' })) ?? 10_000,
    drainSeconds: read('DRAIN_SECONDS', wholeNumber({ from: 0, to: 3600, unset: '10' })) ?? 10,
    logLevel: read('LOG_LEVEL', oneOf(LOG_LEVELS, { unset: 'info' })) ?? 'info',
  };
}

function readWebhooks(read: Read, { env, host }: { readonly env: Env; readonly host: string }): WebhookConfig {
  const byDefault =
    env.WEBHOOK_ALLOW_CIDRS === undefined && setting(env, 'DATABASE_URL') === undefined && isLoopback(host);
  return {
    allowCidrs: byDefault ? LOOPBACK_CIDRS : (read('WEBHOOK_ALLOW_CIDRS', cidrsRule) ?? []),
    allowsLoopbackByDefault: byDefault,
    dnsServers: read('WEBHOOK_DNS_SERVERS', dnsServersRule) ?? [],
    proxyUrl: read('WEBHOOK_PROXY', proxyRule),
    perAccount: read('WEBHOOKS_PER_ACCOUNT', wholeNumber({ from: 1, to: 100_000, unset: '1000' })) ?? 1_000,
    perOrigin: read('WEBHOOKS_PER_ORIGIN', wholeNumber({ from: 1, to: 100_000, unset: '20' })) ?? 20,
    originRate: read('WEBHOOK_ORIGIN_RATE', wholeNumber({ from: 1, to: 1_000_000, unset: '1000' })) ?? 1_000,
  };
}

/** Faults of settings that are each well-formed but don't go together. */
function modeFaults(env: Env, roles: readonly Role[]): string[] {
  const [hasDatabase, hasRedis] = [setting(env, 'DATABASE_URL'), setting(env, 'REDIS_URL')].map(Boolean);
  const faults: string[] = [];
  if (hasRedis && !hasDatabase) {
    faults.push(
      'REDIS_URL: expected only together with DATABASE_URL, found alone; set DATABASE_URL or unset REDIS_URL',
    );
  }
  if (roles.length < ROLES.length && !(hasDatabase && hasRedis)) {
    faults.push(
      `ROLES: expected all of ${ROLES.join(',')} in a process on its own, found ${roles.join(',')}; ` +
        'unset ROLES, or set both DATABASE_URL and REDIS_URL to divide roles between processes',
    );
  }
  if (hasDatabase && setting(env, 'SECRETS_KEY') === undefined) {
    const { expected, remedy } = secretsKeyRule;
    faults.push(`SECRETS_KEY: expected ${expected} because DATABASE_URL is set, found nothing; ${remedy}`);
  }
  return faults;
}

function unsupported(env: Env): string[] {
  return UNSUPPORTED.filter((name) => setting(env, name) !== undefined).map(
    (name) => `${name} is not supported by this version; unset it`,
  );
}

/**
 * Names near to a setting's. Only upper-case ones that have a value, and only near a setting that is itself unset: whoever
 * sets CORS_ORIGINS too means something else by CORS_ORIGIN. No list of exceptions is needed: the names that shells, npm,
 * CI and container platforms set are further away (a test holds a sample of them).
 */
function misspelt(env: Env, nearest: ConfigChecks['nearest']): string[] {
  const unset = SETTINGS.filter((name) => setting(env, name) === undefined);
  const known = new Set<string>(SETTINGS);
  return Object.keys(env).flatMap((name) => {
    if (!/^[A-Z][A-Z0-9_]*$/.test(name) || known.has(name) || !env[name]?.trim()) return [];
    const meant = nearest(name, unset);
    return meant === undefined ? [] : [`${name} is not a setting; did you mean ${meant}? Rename or unset it`];
  });
}

function listFaults(faults: readonly string[]): string {
  const count = faults.length === 1 ? 'a setting is' : `${faults.length} settings are`;
  return `${count} wrong:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`;
}

function isLoopback(host: string): boolean {
  return host === '::1' || host.toLowerCase() === 'localhost' || (isIPv4(host) && host.startsWith('127.'));
}

function deepFreeze<T>(value: T): T {
  // Bytes can't be frozen: Object.freeze throws on a typed array that has elements.
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}
