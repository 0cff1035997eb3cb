import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { openRawSocket, openSse, stockClient, subscribeMessage } from '../support/live-client.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain: createProbeDomain().domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const BOOM = 'query ($kind: String!) { boom(kind: $kind) }';

it.each(['type', 'sql', 'text', 'plain'])('masks what a resolver throws (%s), and names the request', async (kind) => {
  const response = await fetch(app.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${app.key}` },
    body: JSON.stringify({ query: BOOM, variables: { kind } }),
  });
  const text = await response.text();
  const requestId = response.headers.get('x-request-id');
  expect(JSON.parse(text).errors[0]).toMatchObject({
    message: `internal error; tell the operator this request id: ${requestId}`,
    extensions: { code: 'INTERNAL' },
    path: ['boom'],
  });
  expect(text).not.toContain('secret_table');
  expect(text).not.toContain('.ts');
  const seen = app.observations.find(({ name, request_id }) => name === 'request.failed' && request_id === requestId);
  expect(String(seen?.error)).toContain('secret_table');
});

it('masks a field that gives what its type can not represent: no fault of the client', async () => {
  const { errors } = await app.post('{ wrongInt }');
  expect(errors).toMatchObject([{ path: ['wrongInt'], extensions: { code: 'INTERNAL' } }]);
  expect(errors?.[0]?.message).not.toContain('1099511627776');
  expect(app.observations.some(({ error }) => String(error).includes('1099511627776'))).toBe(true);
});

it('masks the same over WebSocket and SSE', async () => {
  const client = stockClient(app.wsUrl, app.key);
  for await (const result of client.iterate({ query: BOOM, variables: { kind: 'type' } })) {
    expect(result.errors?.[0]?.extensions).toEqual({ code: 'INTERNAL' });
    expect(JSON.stringify(result)).not.toContain('secret_table');
  }
  await client.dispose();
  const sse = await openSse(app.url, { key: app.key, query: BOOM, variables: { kind: 'type' } });
  await sse.ended;
  expect(sse.results()[0]?.errors?.[0]?.extensions).toEqual({ code: 'INTERNAL' });
  expect(sse.text()).not.toContain('secret_table');
});

it('masks a value that JSON has no form for, as an error of its field', async () => {
  const { data, errors } = await app.post('{ unwritable head }');
  expect(errors).toMatchObject([{ path: ['unwritable'], extensions: { code: 'INTERNAL' } }]);
  expect(JSON.stringify(errors)).not.toContain('BigInt');
  expect(data ?? null).toBeNull();
});

it('masks an answer that can not be written, and goes on, over WebSocket and SSE', async () => {
  const masked = [{ extensions: { code: 'INTERNAL' } }];
  const socket = await openRawSocket(app.wsUrl, { key: app.key });
  socket.send(subscribeMessage('1', '{ careless }'), subscribeMessage('2', '{ head }'));
  expect(await socket.find(({ id }) => id === '1')).toMatchObject({ type: 'error', payload: masked });
  await socket.find(({ id, type }) => id === '2' && type === 'complete');
  await socket.end();
  const sse = await openSse(app.url, { key: app.key, query: '{ careless }' });
  await sse.ended;
  expect(JSON.parse(sse.text()).errors).toMatchObject(masked);
});

it('shows what is wrong with an input', async () => {
  const create = 'mutation ($at: DateTime) { apiKeyCreate(scopes: ["events:read"], expiresAt: $at) { __typename } }';
  const answers = [
    await app.post(create, { at: 'tomorrow' }),
    await app.post(create.replace('$at)', '"tomorrow")').replace('($at: DateTime)', '')),
    await app.post('{ events(first: 1000) { nodes { id } } }'),
    await app.post(
      'mutation { notesWrite(count: 1, tag: null, kind: "written", subjectId: "\\u0000") { __typename } }',
    ),
  ];
  for (const { errors } of answers)
    expect(['BAD_INPUT', 'GRAPHQL_VALIDATION_FAILED']).toContain(errors?.[0]?.extensions.code);
  expect(answers[0]?.errors?.[0]?.message).toContain('expected a moment');
});
