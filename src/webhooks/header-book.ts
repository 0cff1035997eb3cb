import { SealError, type Sealer } from './seal.ts';
import { openHeaders } from './sealed-headers.ts';
import type { Webhook } from './webhook.ts';

type Owner = Pick<Webhook, 'id' | 'sealed_headers'>;

/** Opens the headers of webhooks for sending, each sealed text once as long as it is in use. */
export interface HeaderBook {
  /** Values by name in lower case, the `authorization` of basic auth among them. @throws SealError */
  of(webhook: Owner): Readonly<Record<string, string>>;
  /** Why the webhook can't be sent to; undefined if its headers can be opened. */
  faultOf(webhook: Owner): string | undefined;
}

/** Webhooks whose headers are remembered; past it those that were opened first are forgotten. */
const MAX_REMEMBERED = 10_000;

interface Opened {
  readonly sealed: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Makes a book; one for a worker. */
export function createHeaderBook(sealer: Sealer): HeaderBook {
  const opened = new Map<string, Opened>();

  function of(webhook: Owner): Readonly<Record<string, string>> {
    const { id, sealed_headers: sealed } = webhook;
    if (sealed === null) return {};
    const known = opened.get(id);
    if (known?.sealed === sealed) return known.headers;
    const { custom, basicAuth } = openHeaders(sealer, webhook);
    const headers = basicAuth === null ? custom : { ...custom, authorization: basicAuth };
    opened.delete(id);
    opened.set(id, { sealed, headers });
    const [first] = opened.keys();
    if (opened.size > MAX_REMEMBERED && first !== undefined) opened.delete(first);
    return headers;
  }

  function faultOf(webhook: Owner): string | undefined {
    try {
      of(webhook);
      return undefined;
    } catch (error) {
      if (error instanceof SealError) return `its headers can't be opened: ${error.message}`;
      throw error;
    }
  }

  return { of, faultOf };
}
