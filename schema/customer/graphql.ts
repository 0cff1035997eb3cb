import { VersionConflict } from '#engine';
import { builder } from '../builder.ts';
import { createCustomer, updateCustomer } from './customers.ts';
import { customerEvents } from './events.ts';

export const Customer = builder.entity('Customer', {
  table: 'customers',
  scope: 'customers:read',
  description: 'Somebody who buys.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'For people.' }),
    email: t.exposeString('email', { nullable: true, description: 'An address of mail.' }),
    country: t.exposeString('country', { nullable: true, description: 'As the seller writes it.' }),
  }),
});

for (const event of customerEvents) {
  builder.objectField(builder.event(event), 'currentCustomer', (t) =>
    t.entity(Customer, { description: 'Current state: the customer as it is when asked.' }),
  );
}

builder.queryField('customer', (t) =>
  t.field({
    type: Customer,
    nullable: true,
    scope: 'customers:read',
    description: 'A customer by its id; null if there is none.',
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { read, accountId }) =>
      (await read
        .selectFrom('customers')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('id', '=', id)
        .executeTakeFirst()) ?? null,
  }),
);

builder.queryField('customers', (t) =>
  t.page(Customer, {
    scope: 'customers:read',
    description: 'All customers, oldest first.',
    query: ({ read, accountId }) => read.selectFrom('customers').selectAll().where('account_id', '=', accountId),
  }),
);

const CustomerCreateInput = builder.inputType('CustomerCreateInput', {
  description: 'A new customer.',
  fields: (t) => ({
    name: t.string({ required: true, description: '1 to 200 characters; blanks around it are dropped.' }),
    email: t.string({ description: 'An address of mail, at most 254 characters.' }),
    country: t.string({ description: '1 to 100 characters.' }),
  }),
});

const CustomerUpdateInput = builder.inputType('CustomerUpdateInput', {
  description: 'What is to change of a customer. What is left out stays as it is.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The customer.' }),
    name: t.string({ description: '1 to 200 characters; blanks around it are dropped.' }),
    email: t.string({ description: 'An address of mail, at most 254 characters; null takes it away.' }),
    country: t.string({ description: '1 to 100 characters; null takes it away.' }),
    expectedVersion: t.int({ description: 'Refuses with `VersionConflict` if the customer has another version.' }),
  }),
});

builder.mutationField('customerCreate', (t) =>
  t.change({
    scope: 'customers:write',
    description: 'Takes a customer on.',
    args: { input: t.arg({ type: CustomerCreateInput, required: true }) },
    success: { customer: Customer },
    run: (tx, { input }) => createCustomer(tx, input),
  }),
);

builder.mutationField('customerUpdate', (t) =>
  t.change({
    scope: 'customers:write',
    description: 'Changes a customer.',
    args: { input: t.arg({ type: CustomerUpdateInput, required: true }) },
    success: { customer: Customer },
    refusals: [VersionConflict],
    run: (tx, { input }) => updateCustomer(tx, input),
  }),
);
