import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { parseSecretsKey } from '../src/config/rules.ts';
import { type Config, readConfig } from '../src/config.ts';
import { StartupError } from '../src/errors.ts';
import { describeKeyFault, makeKey } from '../src/identity/key-format.ts';
import { nearest } from '../src/runtime/spelling.ts';

type Env = Record<string, string | undefined>;

const HEX_KEY = '0123456789abcdef'.repeat(4);
const DATABASE_URL = 'postgres://app:pa%23ss@db.internal:5432/shop';
const REDIS_URL = 'redis://cache.internal:6379';
const SINGLE = { DATABASE_URL, SECRETS_KEY: HEX_KEY };
const CLUSTER = { ...SINGLE, REDIS_URL };

const read = (env: Env): Config => readConfig(env, { describeKeyFault, nearest });

/** The message of the refusal; fails if there is none. */
function refusal(env: Env): string {
  try {
    read(env);
  } catch (error) {
    expect(error).toBeInstanceOf(StartupError);
    return error instanceof Error ? error.message : '';
  }
  throw new Error('the settings were accepted');
}

describe('without any setting', () => {
  test('has the documented defaults', () => {
    expect(read({})).toEqual({
      mode: 'embedded',
      port: 4000,
      host: '127.0.0.1',
      dataDir: '.fanfare',
      roles: ['api', 'relay', 'webhooks'],
      adminApiKey: undefined,
      secretsKey: undefined,
      secretsKeyPrevious: undefined,
      retentionDays: 30,
      webhooks: {
        allowCidrs: ['127.0.0.0/8', '::1/128'],
        allowsLoopbackByDefault: true,
        dnsServers: [],
        proxyUrl: undefined,
        perAccount: 1_000,
        perOrigin: 20,
        originRate: 1_000,
      },
      corsOrigins: [],
      graphiql: true,
      publicUrl: undefined,
      connectionsPerKey: 10_000,
      drainSeconds: 10,
      logLevel: 'info',
    });
  });

  test('is the same when every setting is blank, but for the callback ranges', () => {
    const blank = Object.fromEntries(
      ['PORT', 'HOST', 'DATABASE_URL', 'ROLES', 'OAUTH_ISSUERS'].map((name) => [name, ' ']),
    );
    expect(read(blank)).toEqual(read({}));
    expect(read({ WEBHOOK_ALLOW_CIDRS: '' }).webhooks).toMatchObject({
      allowCidrs: [],
      allowsLoopbackByDefault: false,
    });
  });
});

describe('the mode', () => {
  test('follows from the two URLs, and so do the types', () => {
    expect(read({}).mode).toBe('embedded');
    expect(read(SINGLE)).toMatchObject({ mode: 'single', databaseUrl: DATABASE_URL });
    const config = read(CLUSTER);
    expect(config).toMatchObject({ mode: 'cluster', databaseUrl: DATABASE_URL, redisUrl: REDIS_URL });
    if (config.mode === 'cluster') expectTypeOf(config.redisUrl).toEqualTypeOf<string>();
    // @ts-expect-error without looking at the mode there may be no database
    expect(config.databaseUrl).toBeDefined();
  });

  test('is refused with only a Redis', () => {
    expect(refusal({ REDIS_URL })).toContain('REDIS_URL: expected only together with DATABASE_URL, found alone');
  });

  test('allows partial roles only with both', () => {
    expect(read({ ...CLUSTER, ROLES: ' webhooks, api,api' }).roles).toEqual(['api', 'webhooks']);
    expect(read({ ROLES: 'webhooks,relay,api' }).roles).toEqual(['api', 'relay', 'webhooks']);
    for (const env of [{}, SINGLE]) {
      expect(refusal({ ...env, ROLES: 'api' })).toContain('ROLES: expected all of api,relay,webhooks');
    }
  });

  test('needs a secrets key with a database, and says how to make one', () => {
    const message = refusal({ DATABASE_URL });
    expect(message).toContain(
      'SECRETS_KEY: expected 32 bytes as 64 hex digits or as base64 because DATABASE_URL is set',
    );
    expect(message).toContain('npx fanfare secrets-key');
  });
});

describe('callback ranges', () => {
  test.each<[string, Env, string[]]>([
    ['loopback on localhost', { HOST: 'localhost' }, ['127.0.0.0/8', '::1/128']],
    ['loopback on ::1', { HOST: '::1' }, ['127.0.0.0/8', '::1/128']],
    ['none on every interface', { HOST: '0.0.0.0' }, []],
    ['none on a name that only begins like loopback', { HOST: '127.example.com' }, []],
    ['none with a database', SINGLE, []],
    [
      'what is set',
      { WEBHOOK_ALLOW_CIDRS: '10.0.0.0/8, fd00::/8,192.0.2.7' },
      ['10.0.0.0/8', 'fd00::/8', '192.0.2.7/32'],
    ],
    ['what is set, with a database', { ...SINGLE, WEBHOOK_ALLOW_CIDRS: '::/0' }, ['::/0']],
  ])('are %s', (_, env, ranges) => {
    expect(read(env).webhooks.allowCidrs).toEqual(ranges);
  });
});

describe('a good value', () => {
  test.each<[string, string, object]>([
    ['PORT', '0', { port: 0 }],
    ['PORT', ' 65535\r', { port: 65_535 }],
    ['HOST', '::', { host: '::' }],
    ['RETENTION_DAYS', '7', { retentionDays: 7 }],
    ['CONNECTIONS_PER_KEY', '1', { connectionsPerKey: 1 }],
    ['DRAIN_SECONDS', '0', { drainSeconds: 0 }],
    ['GRAPHIQL', 'off', { graphiql: false }],
    ['GRAPHIQL', 'ON', { graphiql: true }],
    ['LOG_LEVEL', 'WARN', { logLevel: 'warn' }],
    ['PUBLIC_URL', 'https://api.shop.example/', { publicUrl: 'https://api.shop.example' }],
    [
      'CORS_ORIGINS',
      'https://a.example,http://localhost:3000',
      { corsOrigins: ['https://a.example', 'http://localhost:3000'] },
    ],
    [
      'WEBHOOK_DNS_SERVERS',
      '10.0.0.2:5353,[::1]:53,::1',
      { webhooks: { dnsServers: ['10.0.0.2:5353', '[::1]:53', '::1'] } },
    ],
    ['WEBHOOK_PROXY', 'http://u:p@proxy:3128', { webhooks: { proxyUrl: 'http://u:p@proxy:3128' } }],
    ['SECRETS_KEY_PREVIOUS', HEX_KEY, { secretsKeyPrevious: Buffer.from(HEX_KEY, 'hex') }],
  ])('%s=%s is read', (name, text, expected) => {
    expect(read({ [name]: text })).toMatchObject(expected);
  });

  test('of the admin key has the form of a key', () => {
    const key = makeKey();
    expect(read({ ADMIN_API_KEY: key }).adminApiKey).toBe(key);
  });

  test('of a secrets key is the same in hex and in both alphabets of base64', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (array) => {
        const bytes = Buffer.from(array);
        for (const form of ['hex', 'base64', 'base64url'] as const) {
          expect(parseSecretsKey(bytes.toString(form))).toEqual(bytes);
        }
      }),
    );
  });
});

describe('a bad value', () => {
  test.each([
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '4e3'],
    ['PORT', '0x10'],
    ['HOST', 'http://localhost'],
    ['HOST', '[::1]'],
    ['DATABASE_URL', 'mysql://localhost/x'],
    ['DATABASE_URL', 'postgres://u:100%@host/db'],
    ['DATABASE_URL', 'db.internal'],
    ['REDIS_URL', 'redis:cache'],
    ['ROLES', 'api,worker'],
    ['ROLES', ','],
    ['ADMIN_API_KEY', 'letmein'],
    ['SECRETS_KEY', 'short'],
    ['SECRETS_KEY_PREVIOUS', `${HEX_KEY}00`],
    ['RETENTION_DAYS', '6'],
    ['RETENTION_DAYS', '7.5'],
    ['WEBHOOK_ALLOW_CIDRS', '10.0.0.0/33'],
    ['WEBHOOK_ALLOW_CIDRS', '10.0.0.0/8 192.168.0.0/16'],
    ['WEBHOOK_ALLOW_CIDRS', 'localhost'],
    ['WEBHOOK_DNS_SERVERS', '10.0.0.2:0'],
    ['WEBHOOK_DNS_SERVERS', 'dns.google'],
    ['WEBHOOK_PROXY', 'socks5://proxy:1080'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'https://a.example/path'],
    ['CORS_ORIGINS', 'a.example'],
    ['GRAPHIQL', 'maybe'],
    ['PUBLIC_URL', '/api'],
    ['PUBLIC_URL', 'https://u:p@a.example'],
    ['CONNECTIONS_PER_KEY', '0'],
    ['CONNECTIONS_PER_KEY', '1000001'],
    ['DRAIN_SECONDS', '3601'],
    ['LOG_LEVEL', 'verbose'],
  ])('%s=%s is refused with what was expected and what to do', (name, text) => {
    expect(refusal({ [name]: text })).toMatch(new RegExp(`^ {2}- ${name}: expected .+, found .+; .+`, 'm'));
  });

  test.each(['OAUTH_ISSUERS', 'TRUSTED_DOCUMENTS'])(
    'of any kind for %s, which does nothing yet, is refused',
    (name) => {
      expect(refusal({ [name]: 'x' })).toContain(`${name} is not supported by this version; unset it`);
    },
  );

  test('does not hide another: all are reported at once', () => {
    const message = refusal({
      PORT: 'x',
      RETENTION_DAYS: '1',
      REDIS_URL,
      ROLES: 'api',
      DATABSE_URL: 'y',
      OAUTH_ISSUERS: 'z',
    });
    expect(message.split('\n')).toEqual([
      '6 settings are wrong:',
      ...['PORT:', 'RETENTION_DAYS:', 'REDIS_URL:', 'ROLES:', 'OAUTH_ISSUERS', 'DATABSE_URL'].map((start) =>
        expect.stringContaining(`  - ${start}`),
      ),
    ]);
  });

  test('that is secret is never shown, whatever it is', () => {
    const names = [
      'DATABASE_URL',
      'REDIS_URL',
      'WEBHOOK_PROXY',
      'SECRETS_KEY',
      'SECRETS_KEY_PREVIOUS',
      'ADMIN_API_KEY',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.base64String({ minLength: 16 }), (name, secret) => {
        fc.pre(parseSecretsKey(secret) === undefined);
        expect(refusal({ [name]: `x ${secret}` })).not.toContain(secret);
      }),
    );
    expect(refusal({ PUBLIC_URL: 'https://u:hunter2@a.example' })).not.toContain('hunter2');
  });

  test('is always a clear refusal, never a crash', () => {
    const names = [
      'PORT',
      'HOST',
      'DATABASE_URL',
      'ROLES',
      'WEBHOOK_DNS_SERVERS',
      'WEBHOOK_ALLOW_CIDRS',
      'CORS_ORIGINS',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.string({ unit: 'binary' }), (name, text) => {
        try {
          read({ ...SINGLE, [name]: text });
        } catch (error) {
          expect(error).toBeInstanceOf(StartupError);
        }
      }),
    );
  });
});

describe('a misspelt name', () => {
  test.each([
    ['DATABSE_URL', 'DATABASE_URL'],
    ['DATABASE_URI', 'DATABASE_URL'],
    ['REDIS_ULR', 'REDIS_URL'],
    ['SECRET_KEY', 'SECRETS_KEY'],
    ['WEBHOOKS_ALLOW_CIDR', 'WEBHOOK_ALLOW_CIDRS'],
    ['CORS_ORIGIN', 'CORS_ORIGINS'],
    ['ROLE', 'ROLES'],
    ['PROT', 'PORT'],
  ])('%s is refused, naming %s', (name, meant) => {
    expect(refusal({ [name]: 'secret-value' })).toContain(`${name} is not a setting; did you mean ${meant}?`);
    expect(refusal({ [name]: 'secret-value' })).not.toContain('secret-value');
  });

  test('is let be where the setting it resembles is set as well, is blank, or is not upper-case', () => {
    read({ CORS_ORIGIN: 'x', CORS_ORIGINS: 'https://a.example', DATABSE_URL: '', databse_url: 'x' });
  });

  test('is not seen in the ordinary environment of shells, npm, CI and containers', () => {
    const names =
      `HOME HOSTNAME PATH USER SHELL LANG PWD OLDPWD MAIL LOGNAME TERM SHLVL TZ EDITOR PAGER DISPLAY TMPDIR LC_ALL
      LS_COLORS SSH_AUTH_SOCK SSH_TTY XDG_DATA_DIRS XDG_DATA_HOME XDG_RUNTIME_DIR COLORTERM INIT_CWD NODE NODE_ENV NODE_OPTIONS
      NODE_PATH npm_config_cache npm_lifecycle_event npm_package_json CI GITHUB_ACTIONS GITHUB_TOKEN GITHUB_SERVER_URL RUNNER_OS
      RUNNER_TEMP CI_JOB_URL CI_REPOSITORY_URL GITLAB_CI BUILD_URL JENKINS_URL POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB
      POSTGRES_HOST POSTGRES_PORT POSTGRES_URL PGHOST PGPORT PGUSER PGDATA PGDATABASE DATABASE_HOST DATABASE_PORT DATABASE_USER
      DATABASE_NAME REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_TLS_URL KUBERNETES_PORT KUBERNETES_SERVICE_HOST HTTP_PROXY
      HTTPS_PROXY NO_PROXY DOCKER_HOST DYNO AWS_REGION AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID DEBUG FORCE_COLOR VITEST
      FANFARE_LONG FANFARE_URL FANFARE_KEY PYTHONUNBUFFERED SSL_CERT_DIR CONTAINER_NAME DEBIAN_FRONTEND JAVA_HOME _`.split(
        /\s+/,
      );
    expect(read(Object.fromEntries(names.map((name) => [name, 'x'])))).toEqual(read({}));
  });
});

test('the config is frozen to the leaves', () => {
  const config = read(CLUSTER);
  for (const part of [config, config.roles, config.webhooks, config.webhooks.allowCidrs, config.corsOrigins]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});
