import type { Config } from '../config.ts';

/** What a process knows of itself once it serves. */
export interface BannerFacts {
  readonly config: Config;
  /** The port it listens on, which matters for PORT 0. */
  readonly port: number;
  /** Where the data folder's own admin key lies; undefined if the key was given, or there is none. */
  readonly adminKeyFile: string | undefined;
  /** Printed only where the folder made it: one that was given is known, and logs of servers are read by others. */
  readonly adminKey: string | undefined;
}

/** What is printed when the server is up: at most 24 lines; but for the commands, of 100 columns. */
export function bannerText(facts: BannerFacts): string {
  const sections = [addresses(facts), promises(facts), facts.config.roles.includes('api') ? commands(facts) : []];
  const lines = sections.filter((section) => section.length > 0).flatMap((section) => [...section, '']);
  return lines.join('\n');
}

function addresses({ config, port, adminKeyFile, adminKey }: BannerFacts): string[] {
  const at = `${reachableHost(config.host)}:${port}`;
  const isApi = config.roles.includes('api');
  const key = adminKeyFile === undefined ? adminKey && 'as in ADMIN_API_KEY' : `${adminKey} (in ${adminKeyFile})`;
  return [
    `Fanfare serves ${config.roles.join(', ')} on http://${at}`,
    ...(isApi ? [`  GraphQL    http://${at}/graphql, with SSE; WebSocket on ws://${at}/graphql`] : []),
    ...(isApi && config.graphiql ? [`  GraphiQL   http://${at}/graphql in a browser`] : []),
    `  health     http://${at}/healthz, /readyz, /metrics`,
    ...(key === undefined ? [] : [`  admin key  ${key}`]),
    ...(config.publicUrl === undefined ? [] : [`  public     ${config.publicUrl}`]),
  ];
}

function promises({ config }: BannerFacts): string[] {
  return [`  data       ${durability(config)}`, `  callbacks  ${callbacks(config)}`];
}

function callbacks({ webhooks }: Config): string {
  if (webhooks.allowsLoopbackByDefault)
    return 'plain http to loopback is allowed (WEBHOOK_ALLOW_CIDRS is unset), elsewhere https only';
  if (webhooks.allowCidrs.length > 0)
    return `plain http to ${webhooks.allowCidrs.join(', ')} is allowed, elsewhere https only`;
  return 'https to public addresses only; WEBHOOK_ALLOW_CIDRS=127.0.0.0/8 allows this machine';
}

function durability(config: Config): string {
  switch (config.mode) {
    case 'embedded':
      return `in ${config.dataDir}: survives kill -9 of this process, not loss of power`;
    case 'single':
      return 'in Postgres: as durable as it; this process works alone on its database';
    case 'cluster':
      return 'in Postgres: as durable as it; Redis only speeds up delivery and may lose anything';
  }
}

/** Each works by itself, as it stands. They name no event type, because the engine knows none. */
function commands({ config, port, adminKeyFile }: BannerFacts): string[] {
  const url = `http://${reachableHost(config.host)}:${port}`;
  const key = adminKeyFile === undefined ? '$ADMIN_API_KEY' : `$(cat ${quoteWord(adminKeyFile)})`;
  const isDefault = url === DEFAULT_URL && (adminKeyFile ?? DEFAULT_KEY_FILE) === DEFAULT_KEY_FILE;
  const server = isDefault ? '' : ` --url ${url} --key "${key}"`;
  const webhook = '{ url: "http://127.0.0.1:4002/hook", query: "subscription { events { name subjectId } }" }';
  return [
    'Pull, watch, or be called (another terminal, the same folder; each command is one line):',
    `  npx fanfare ask${server} '{ head events(last: 5) { nodes { name position cursor } } }'`,
    `  npx fanfare watch${server}`,
    `  npx fanfare ask${server} 'mutation { webhookCreate(input: ${webhook}) { ... on WebhookCreateSuccess { webhook { id } secret } ... on Refusal { code message } } }'`,
  ];
}

/** What the commands take without being told. */
const DEFAULT_URL = 'http://127.0.0.1:4000';
const DEFAULT_KEY_FILE = '.fanfare/admin-key';

/** A wildcard is no address to connect to. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

function quoteWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
