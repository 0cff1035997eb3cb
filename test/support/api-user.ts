import { expect } from 'vitest';
import { type GraphqlAnswer, post, type TestApp } from './app.ts';

/** A key of a test, with its own `post`. */
export interface ApiUser {
  readonly key: string;
  /** `key_…` */
  readonly id: string;
  readonly accountId: string;
  post(query: string, variables?: Record<string, unknown>, headers?: Record<string, string>): Promise<GraphqlAnswer>;
}

export interface ApiUserOptions {
  /** @default all that the admin has, less `operator` and `introspect` */
  readonly scopes?: readonly string[];
  /** @default 'acc_default' */
  readonly accountId?: string;
  readonly expiresAt?: Date;
}

const ALL = ['events:read', 'notes:read', 'notes:write', 'keys:write'];

/** Makes a key by the API. */
export async function createUser(
  app: TestApp,
  { scopes = ALL, accountId = 'acc_default', expiresAt }: ApiUserOptions = {},
): Promise<ApiUser> {
  const answer = await app.post(
    `mutation ($scopes: [String!]!, $accountId: ID, $expiresAt: DateTime) {
      apiKeyCreate(scopes: $scopes, accountId: $accountId, expiresAt: $expiresAt) { ... on ApiKeyCreateSuccess { secret apiKey { id } } }
    }`,
    { scopes, accountId, expiresAt: expiresAt?.toISOString() },
  );
  expect(answer.errors).toBeUndefined();
  const { secret: key, apiKey } = answer.data.apiKeyCreate;
  return {
    key,
    id: apiKey.id,
    accountId,
    post: (query, variables, headers) => post({ url: app.url, key }, { query, variables }, headers),
  };
}

/** Makes an account and a key of it. */
export async function createAccountUser(
  app: TestApp,
  options: Omit<ApiUserOptions, 'accountId'> = {},
): Promise<ApiUser> {
  const answer = await app.post(
    'mutation { accountCreate(name: "other") { ... on AccountCreateSuccess { account { id } } } }',
  );
  return createUser(app, { ...options, accountId: answer.data.accountCreate.account.id });
}

/** Writes a note of the toy domain; gives its id and the change's cursor. */
export async function writeNote(
  { post: send }: Pick<TestApp, 'post'>,
  text: string,
): Promise<{ readonly id: string; readonly cursor: string }> {
  const answer = await send(
    'mutation ($text: String!) { noteWrite(text: $text) { ... on NoteWriteSuccess { cursor note { id } } } }',
    { text },
  );
  expect(answer.errors).toBeUndefined();
  return { id: answer.data.noteWrite.note.id, cursor: answer.data.noteWrite.cursor };
}

/** The number of a gauge or counter on /metrics. */
export async function readMetric(app: TestApp, name: string): Promise<number> {
  const response = await fetch(app.url.replace('/graphql', '/metrics'));
  const line = (await response.text()).split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.split(' ')[1]);
}
