import type { TypedDocumentString } from './documents.ts';

/** Where the server is, and who asks. */
export interface Server {
  /** The GraphQL endpoint: `http://127.0.0.1:4000/graphql`. */
  readonly url: string;
  readonly key: string;
}

/** What went wrong, by one of the codes of docs/errors.md; match on it, never on the message. */
export class AskError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'AskError';
    this.code = code;
  }
}

interface Answer<Result> {
  readonly data?: Result | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: { readonly code?: string } }[];
}

/**
 * Sends one query or mutation; its document gives the types of the variables and of the result.
 * @throws AskError for an answer with errors, a DOMException after 30 s, or what `fetch` throws
 */
export async function ask<Result, Variables>(
  { url, key }: Server,
  document: TypedDocumentString<Result, Variables>,
  variables: Variables,
): Promise<Result> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ query: document.toString(), variables }),
    signal: AbortSignal.timeout(30_000),
  });
  // the document was checked against the server's schema when its types were generated
  const { data, errors } = (await response.json()) as Answer<Result>;
  if (data && errors === undefined) return data;
  const { message = `the server answered ${response.status}`, extensions } = errors?.[0] ?? {};
  throw new AskError(extensions?.code ?? 'INTERNAL', message);
}
