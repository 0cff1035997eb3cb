import type { EngineServices } from '../graphql/context.ts';
import type { Principal } from '../identity/principal.ts';
import { filterOf, filterPredicate } from '../outbox/filter.ts';
import type { EventRecord } from '../outbox/read.ts';
import { canonicalJson } from '../runtime/canonical-json.ts';
import { bodyKey } from './bodies.ts';
import { readDocuments } from './render.ts';
import type { DocumentReader, RunnableDocument } from './selection.ts';
import { principalOf, type Webhook } from './webhook.ts';

/** How a webhook sees events: all that follows from its selection and its grants. */
export interface WebhookView {
  /** Why nothing can be rendered for it. */
  readonly fault: string | undefined;
  readonly principal: Principal;
  /** Whether it asks for the event and its grants let it see it. */
  wants(event: EventRecord): boolean;
  /** For an event of this type. */
  documentOf(eventName: string): RunnableDocument;
  /** Under which key its body of such an event is stored. */
  keyOf(eventName: string): string;
}

/** Views of webhooks, kept while neither selection nor grants change: one costs a millisecond of reading a document. */
export interface Views {
  of(webhook: Webhook): WebhookView;
}

const MAX_KEPT = 1_000;

export function createViews(deps: { readonly engine: EngineServices; readonly documents: DocumentReader }): Views {
  const kept = new Map<string, WebhookView>();
  /** By row: a batch reads each webhook's once for all of its deliveries, and the selection's key is dear. */
  const byRow = new WeakMap<Webhook, WebhookView>();

  function find(webhook: Webhook): WebhookView {
    const key = selectionKey(webhook);
    const known = kept.get(key);
    if (known !== undefined) return known;
    const view = createView(deps, webhook);
    // what could not be read may be readable when its row is read next
    if (view.fault === undefined) kept.set(key, view);
    const [oldest] = kept.keys();
    if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest);
    return view;
  }

  return {
    of(webhook) {
      const view = byRow.get(webhook) ?? find(webhook);
      byRow.set(webhook, view);
      return view;
    },
  };
}

function selectionKey(webhook: Webhook): string {
  const { id, event_types, document, variables, scopes, narrowing } = webhook;
  return canonicalJson([id, event_types, document, variables, scopes, narrowing, filterOf(webhook)]);
}

function createView(
  { engine, documents: reader }: { readonly engine: EngineServices; readonly documents: DocumentReader },
  webhook: Webhook,
): WebhookView {
  const principal = principalOf(webhook);
  const documents = readDocuments(reader, webhook);
  const documentOf = (eventName: string) => {
    if ('fault' in documents) throw new Error(documents.fault);
    return documents.documentOf(eventName);
  };
  const keys = new Map<string, string>();
  return {
    fault: 'fault' in documents ? documents.fault : undefined,
    principal,
    wants: filterPredicate([filterOf(webhook), ...engine.registry.visibleTo(principal)]),
    documentOf,
    keyOf(eventName) {
      const key = keys.get(eventName) ?? bodyKey(webhook, documentOf(eventName).source);
      keys.set(eventName, key);
      return key;
    },
  };
}
