import { auditServer } from 'graphql-http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

it('passes all audits of GraphQL over HTTP with a key', async () => {
  const results = await auditServer({
    url: app.url,
    fetchFn: (url: string, init: RequestInit = {}) =>
      fetch(url, {
        ...init,
        headers: { ...Object.fromEntries(new Headers(init.headers)), authorization: `Bearer ${app.key}` },
      }),
  });
  expect(results.length).toBe(61);
  const failed = results.filter(({ status }) => status !== 'ok');
  expect(failed.map(({ id, name }) => `${id} ${name}`)).toEqual([]);
});
