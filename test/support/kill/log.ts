import { expect } from 'vitest';
import { type GraphqlAnswer, post } from '../app.ts';
import { eventually } from '../eventually.ts';
import type { Acknowledged, Evidence, SeenEvent } from './compare.ts';

/** Where questions go. */
export interface Door {
  readonly url: string;
  readonly key: string;
}

/** Makes changes of the test's own, and waits for their place in the log. */
export interface Marker {
  /** Makes a product; resolves when its event is stamped, and all that was committed before. @returns the event's id */
  mark(): Promise<string>;
  /** What it was acknowledged. */
  readonly ledger: readonly Acknowledged[];
}

const MARK = `mutation ($input: ProductCreateInput!) {
  productCreate(input: $input) { ... on ProductCreateSuccess { product { id } } }
}`;
const STAMPED = 'query ($id: ID!) { events(first: 1, filter: { subjects: [$id] }) { nodes { id } } }';
const WITHIN_MS = 30_000;

export function createMarker(door: Door): Marker {
  const ledger: Acknowledged[] = [];
  return {
    ledger,
    async mark() {
      const key = `mark:${ledger.length}`;
      const input = { sku: `MARK-${ledger.length}`, title: key, price: { amount: '0.01', currency: 'GBP' }, stock: 1 };
      const create = async () => {
        const { data } = await post(door, { query: MARK, variables: { input } }, { 'idempotency-key': key });
        return data?.productCreate?.product?.id ?? false;
      };
      const id: string = await eventually(create, { describe: `the change ${key}`, deadlineMs: WITHIN_MS });
      ledger.push({ key, field: 'productCreate', id });
      const findEvent = async () => {
        const { data } = await post(door, { query: STAMPED, variables: { id } });
        return data?.events.nodes[0]?.id ?? false;
      };
      return eventually(findEvent, { describe: `the event of ${key} to be stamped`, deadlineMs: WITHIN_MS });
    },
  };
}

export async function readHead(door: Door): Promise<string> {
  const { data } = await post(door, { query: '{ head }' });
  return data.head;
}

/** Registers the document as a webhook. @returns its secret */
export async function registerWebhook(door: Door, input: Readonly<Record<string, unknown>>): Promise<string> {
  const query = `mutation ($input: WebhookCreateInput!) {
    webhookCreate(input: $input) { __typename ... on WebhookCreateSuccess { secret } ... on Refusal { code message } }
  }`;
  const answer = await post(door, { query, variables: { input } });
  expect(answer).toMatchObject({ data: { webhookCreate: { __typename: 'WebhookCreateSuccess' } } });
  return answer.data.webhookCreate.secret;
}

/** The whole log, page by page. */
export function pullLog(door: Door, query: string): Promise<SeenEvent[]> {
  return pullPages<SeenEvent>(door, { query, field: 'events' });
}

/** All orders, by the query of that name. */
export function pullOrders(door: Door): Promise<Evidence['orders']> {
  const query =
    'query ($after: String) { orders(first: 100, after: $after) { nodes { id total { amount } } pageInfo { endCursor hasNextPage } } }';
  return pullPages(door, { query, field: 'orders' });
}

async function pullPages<T>(door: Door, { query, field }: { query: string; field: string }): Promise<T[]> {
  const nodes: T[] = [];
  for (let after: string | null = null; ; ) {
    const { data, errors }: GraphqlAnswer = await post(door, { query, variables: { after } });
    expect(errors).toBeUndefined();
    nodes.push(...data[field].nodes);
    if (!data[field].pageInfo.hasNextPage) return nodes;
    after = data[field].pageInfo.endCursor;
  }
}
