import { Pool } from 'undici';

/** Where to ask, and as whom. */
export interface Target {
  readonly url: string;
  readonly key: string;
}

/** Asks a server over connections that are kept open. */
export interface Client {
  /**
   * Runs an operation. @returns `data`
   * @throws Error with the answer if its status is not 200, it has errors, or its one field is a refusal
   */
  ask<T>(query: string, variables?: Readonly<Record<string, unknown>>): Promise<T>;
  close(): Promise<void>;
}

/** @param connections how many operations may be under way at once; further ones wait */
export function createClient({ url, key }: Target, connections: number): Client {
  const { origin, pathname } = new URL(url);
  const pool = new Pool(origin, { connections, pipelining: 1 });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
  return {
    async ask<T>(query: string, variables: Readonly<Record<string, unknown>> = {}) {
      const body = JSON.stringify({ query, variables });
      const response = await pool.request({ method: 'POST', path: pathname, headers, body });
      const text = await response.body.text();
      if (response.statusCode !== 200 || !isSuccess(text)) throw new Error(`${response.statusCode}: ${text}`);
      return (JSON.parse(text) as { data: T }).data; // what the operation selects
    },
    close: () => pool.close(),
  };
}

/** Refusals are selected by their type's name, so one shows in the text. */
function isSuccess(text: string): boolean {
  return !text.includes('"errors"') && !text.includes('"refused"');
}
