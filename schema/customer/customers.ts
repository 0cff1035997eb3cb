import type { z } from 'zod';
import { EngineError, type Tx } from '#engine';
import { changedFields } from '../changed.ts';
import { checkText, notNull, quote } from '../input.ts';
import type { CustomerRow, Tables } from '../tables.ts';
import { type CustomerSnapshot, customerCreated, customerUpdated } from './events.ts';

export interface CustomerDraft {
  readonly name: string;
  readonly email?: string | null | undefined;
  readonly country?: string | null | undefined;
}

export async function createCustomer(tx: Tx<Tables>, draft: CustomerDraft) {
  const customer: CustomerRow = {
    id: tx.newId('Customer'),
    account_id: tx.accountId,
    name: checkName(draft.name),
    email: checkEmail(draft.email ?? null),
    country: checkCountry(draft.country ?? null),
  };
  await tx.db.insertInto('customers').values(customer).execute();
  await tx.emit(customerCreated, { subjectId: customer.id, payload: { customer: customerFacts(customer, 1) } });
  return { customer };
}

export interface CustomerPatch {
  readonly id: string;
  readonly name?: string | null | undefined;
  readonly email?: string | null | undefined;
  readonly country?: string | null | undefined;
  readonly expectedVersion?: number | null | undefined;
}

export async function updateCustomer(tx: Tx<Tables>, patch: CustomerPatch) {
  const before = await tx.lockRow('customers', patch.id);
  const version = 1 + (await tx.expectVersion('Customer', before.id, patch.expectedVersion));
  const customer = { ...before, ...checkPatch(patch) };
  const changed = changedFields(customerFacts(before, version), customerFacts(customer, version));
  if (changed.length === 0) return { customer };
  const { name, email, country } = customer;
  await tx.db
    .updateTable('customers')
    .set({ name, email, country })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', customer.id)
    .execute();
  await tx.emit(customerUpdated, {
    subjectId: customer.id,
    changed,
    payload: { customer: customerFacts(customer, version) },
  });
  return { customer };
}

function checkPatch(patch: CustomerPatch): Partial<CustomerRow> {
  const name = notNull(patch.name, 'name');
  return {
    ...(name !== undefined && { name: checkName(name) }),
    ...(patch.email !== undefined && { email: checkEmail(patch.email) }),
    ...(patch.country !== undefined && { country: checkCountry(patch.country) }),
  };
}

function checkName(name: string): string {
  return checkText(name, { field: 'name', max: 200 });
}

function checkEmail(email: string | null): string | null {
  if (email === null) return null;
  const text = checkText(email, { field: 'email', max: 254 });
  if (!/^[^\s@]+@[^\s@]+$/.test(text)) {
    throw new EngineError('BAD_INPUT', `email: expected an address such as "ada@example.com", found ${quote(text)}`);
  }
  return text;
}

function checkCountry(country: string | null): string | null {
  return country === null ? null : checkText(country, { field: 'country', max: 100 });
}

function customerFacts(customer: CustomerRow, version: number): z.infer<typeof CustomerSnapshot> {
  const { id: customerId, name, email, country } = customer;
  return { customerId, version, name, email, country };
}
