import type { EngineServices } from '../graphql/context.ts';
import type { EventRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import type { Sealer } from './seal.ts';
import type { DocumentReader } from './selection.ts';
import type { Views, WebhookView } from './views.ts';
import type { Webhook } from './webhook.ts';

/** What it takes to make claims ready. */
export interface PrepareDeps {
  readonly engine: EngineServices;
  readonly documents: DocumentReader;
  readonly sealer: Sealer;
  readonly observe: Observe;
  /** The rendering for an account that is under way or waits last, by account. */
  readonly turns: Map<string, Promise<void>>;
  readonly views: Views;
}

/** What has been decided so far. */
export interface Progress {
  readonly ended: ClaimResult[];
  readonly parked: Map<string, string>;
}

/** A claim before its body is known. */
export interface Draft {
  readonly claim: Claim;
  readonly webhook: Webhook;
  readonly key: string;
}

/** The same before it is known where its body is stored. */
export type Unrendered = Omit<Draft, 'key'>;

/** A claim with all that rendering needs. */
export interface Wanted extends Draft {
  readonly event: EventRecord;
  readonly view: WebhookView;
}

/** Leaves out what can't or may not be rendered, and says why: a webhook whose document breaks by a fault of ours is parked. */
export function selectWanted(
  deps: PrepareDeps,
  { drafts, events }: { readonly drafts: readonly Unrendered[]; readonly events: ReadonlyMap<number, EventRecord> },
  progress: Progress,
): Wanted[] {
  const { observe, views } = deps;
  return drafts.flatMap((draft) => {
    const { claim, webhook } = draft;
    try {
      return judge(draft);
    } catch (error) {
      observe({
        name: 'delivery.render_broken',
        level: 'error',
        webhook_id: webhook.id,
        event_id: claim.eventId,
        error,
      });
      progress.parked.set(webhook.id, BROKEN);
      return release(progress, claim);
    }
  });

  function judge({ claim, webhook }: Unrendered): Wanted[] {
    const view = views.of(webhook);
    if (view.fault !== undefined) {
      progress.parked.set(webhook.id, view.fault);
      return release(progress, claim);
    }
    const event = events.get(claim.seq);
    if (event === undefined || !view.wants(event)) {
      const error =
        event === undefined ? PAST_RETENTION : 'the webhook may not see this event, or no longer asks for it';
      progress.ended.push({ claim, status: 'cancelled', error });
      return [];
    }
    return [{ claim, webhook, event, view, key: view.keyOf(event.name) }];
  }
}

/** The reason of a delivery that has nothing left to send. */
export const PAST_RETENTION = 'the event is past retention';

/** The reason of a webhook whose rendering fails by a fault of ours, which is told to the operator only. */
export const BROKEN = 'its document could not be rendered: internal error';

/** Hands a claim back untouched. */
export function release({ ended }: Progress, claim: Claim): [] {
  ended.push({ claim, status: 'released' });
  return [];
}
