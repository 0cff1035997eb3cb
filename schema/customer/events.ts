import { z } from 'zod';
import { defineEvent, id, snapshot } from '#engine';

export const CustomerSnapshot = snapshot('CustomerSnapshot', {
  customerId: id('Customer'),
  version: z.int32(),
  name: z.string(),
  email: z.string().nullable(),
  country: z.string().nullable(),
});

export const customerCreated = defineEvent('customer.created', {
  kind: 'fact',
  version: 1,
  subject: 'Customer',
  scope: 'customers:read',
  payload: { customer: CustomerSnapshot },
  related: [],
  description: 'There is a new customer.',
});

export const customerUpdated = defineEvent('customer.updated', {
  kind: 'update',
  version: 1,
  subject: 'Customer',
  scope: 'customers:read',
  payload: { customer: CustomerSnapshot },
  related: [],
  description: 'A customer has another name, address of mail or country.',
});

export const customerEvents = [customerCreated, customerUpdated];
