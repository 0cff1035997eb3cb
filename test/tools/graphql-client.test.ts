import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ToolError } from '../../schema/tools/command-line.ts';
import { type Call, type ClientOptions, createGraphqlClient, ServerLost } from '../../schema/tools/graphql-client.ts';
import { type Answer, type Behaviour, openReceiver, type Receiver } from '../support/receiver.ts';
import { freePort } from '../support/servers.ts';

const CALL: Call = { document: 'mutation { a }', variables: { n: 1 }, field: 'a', idempotencyKey: 'key-1' };
const DONE = graphql({ data: { a: { id: 'x' } } });

let server: Receiver;

beforeEach(async () => {
  server = await openReceiver();
});
afterEach(() => server.close());

function graphql(body: unknown, status = 200): Answer {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

function failure(code: string, status = 200): Answer {
  return graphql({ data: null, errors: [{ message: `it is ${code}`, extensions: { code } }] }, status);
}

function client(options: Partial<ClientOptions> = {}) {
  return createGraphqlClient({
    url: `${server.url}/graphql`,
    key: 'k',
    scopes: ['a:read', 'a:write'],
    random: () => 0,
    ...options,
  });
}

describe('a call', () => {
  test.each<[string, Behaviour, string]>([
    ['a reset connection', { kind: 'reset' }, "can't be reached"],
    ['a request that stood still halfway', { status: 408, body: '' }, 'answered 408'],
    ['a proxy that finds no server', { status: 502, body: '<html>bad gateway</html>' }, 'answered 502'],
    ...['UNAVAILABLE', 'TIMEOUT', 'RATE_LIMITED', 'INTERNAL'].map((code): [string, Behaviour, string] => [
      code,
      failure(code, 503),
      `the server answered ${code}: it is ${code}`,
    ]),
  ])('is sent again with the same key over %s', async (_name, behaviour, reason) => {
    server.script('/graphql', behaviour, DONE);
    const reasons: string[] = [];
    const answer = await client({ onRetry: (told) => void reasons.push(told) }).ask(CALL);
    expect(answer).toEqual({ status: 'done', value: { id: 'x' } });
    expect(reasons).toEqual([expect.stringContaining(reason)]);
    expect(server.requests.map(({ headers }) => headers['idempotency-key'])).toEqual(['key-1', 'key-1']);
  });

  test('is not sent again when it is its own fault', async () => {
    server.script('/graphql', failure('BAD_INPUT', 400));
    expect(await client().ask(CALL)).toEqual({ status: 'failed', code: 'BAD_INPUT', message: 'it is BAD_INPUT' });
    expect(server.requests).toHaveLength(1);
  });

  test.each([
    [failure('UNAUTHENTICATED', 401), 'the key is refused: it is UNAUTHENTICATED'],
    [failure('FORBIDDEN', 403), 'the key lacks a scope: it is FORBIDDEN; needed are a:read, a:write'],
    [failure('GRAPHQL_VALIDATION_FAILED', 400), "the server's schema is another than this tool's"],
    [{ status: 404, body: 'not found' }, 'answered 404, which is no answer to GraphQL; is it Fanfare?'],
    [{ status: 307, headers: { location: '/elsewhere' } }, 'answered 307, which is no answer'],
  ])('ends the tool when no repeat would mend it: %j', async (answer, message) => {
    server.script('/graphql', answer);
    await expect(client().ask(CALL)).rejects.toSatisfy(
      (error) => error instanceof ToolError && error.message.includes(message),
    );
    expect(server.requests).toHaveLength(1);
  });

  test('is given up after a while without any answer', async () => {
    const url = `http://127.0.0.1:${await freePort()}/graphql`;
    await expect(client({ url, giveUpAfterMs: 300 }).ask(CALL)).rejects.toBeInstanceOf(ServerLost);
  });

  test('fails alone when others are answered meanwhile', async () => {
    server.always('/graphql', failure('INTERNAL', 500));
    const other: { told?: Promise<unknown> } = {};
    const retrying = client({
      giveUpAfterMs: 500,
      onRetry() {
        if (other.told === undefined) server.script('/graphql', DONE);
        other.told ??= retrying.ask({ ...CALL, idempotencyKey: 'key-2' });
      },
    });
    expect(await retrying.ask(CALL)).toMatchObject({ status: 'failed', code: 'INTERNAL' });
    expect(await other.told).toMatchObject({ status: 'done' });
  });

  test('that fails is not tried again once the tool is stopped', async () => {
    server.always('/graphql', failure('UNAVAILABLE', 503));
    await expect(client({ signal: AbortSignal.abort() }).ask(CALL)).rejects.toBeInstanceOf(ServerLost);
    expect(server.requests).toHaveLength(1);
  });
});
