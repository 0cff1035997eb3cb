import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

const CREATE = `mutation ($input: CustomerCreateInput!) {
  customerCreate(input: $input) { __typename ... on CustomerCreateSuccess { customer { id version name email country } } }
}`;
const UPDATE = `mutation ($input: CustomerUpdateInput!) {
  customerUpdate(input: $input) {
    __typename ... on Refusal { code message } ... on CustomerUpdateSuccess { customer { id version name email country } }
  }
}`;

describe('customers', () => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain });
    store = createStoreClient(engine);
  });
  afterAll(() => engine.close());

  const create = (input: object) => store.change('customerCreate', CREATE, { variables: { input } });
  const update = (input: object) => store.change('customerUpdate', UPDATE, { variables: { input } });

  it('are created and updated, with events that say what changed', async () => {
    const { customer } = await create({ name: 'Customer 12431', country: 'Australia' });
    const id = customer?.id ?? '';
    expect(id).toMatch(/^cust_/);
    expect(await update({ id, email: 'ada@example.com', country: null })).toMatchObject({
      customer: { version: 2, name: 'Customer 12431', email: 'ada@example.com', country: null },
    });
    expect(await update({ id, email: 'ada@example.com' })).toMatchObject({ customer: { version: 2 } });

    const events = (await engine.stampedEvents()).filter(({ subjectId }) => subjectId === id);
    const facts = { customerId: id, name: 'Customer 12431' };
    expect(events).toMatchObject([
      { name: 'customer.created', payload: { customer: { ...facts, version: 1, email: null, country: 'Australia' } } },
      {
        name: 'customer.updated',
        subjectVersion: 2,
        changed: ['email', 'country'],
        payload: { customer: { ...facts, version: 2, email: 'ada@example.com', country: null } },
      },
    ]);
  });

  it('refuse an update of another version than expected', async () => {
    const { customer } = await create({ name: 'Ada' });
    const refused = await update({ id: customer?.id, name: 'Eve', expectedVersion: 7 });
    expect(refused).toMatchObject({ __typename: 'VersionConflict', code: 'VERSION_CONFLICT' });
  });

  it.each<[string, object, string]>([
    ['an empty name', { name: ' ' }, 'name: expected 1 to 200 characters, found 0'],
    ['an address without @', { name: 'Ada', email: 'ada' }, 'email: expected an address'],
    ['a country of 101 characters', { name: 'Ada', country: 'a'.repeat(101) }, 'country: expected 1 to 100'],
  ])('refuse %s', async (_what, input, message) => {
    expect(await engine.fail(CREATE, { variables: { input } })).toEqual({
      code: 'BAD_INPUT',
      message: expect.stringContaining(message),
    });
  });
});
