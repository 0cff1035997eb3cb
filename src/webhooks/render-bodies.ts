import { setImmediate as nextTurn } from 'node:timers/promises';
import { EngineError } from '../errors.ts';
import type { EventRecord } from '../outbox/read.ts';
import { type FreshBody, storeBodies } from './bodies.ts';
import { type Rendering, renderEvent } from './render.ts';
import {
  BROKEN,
  type Draft,
  type PrepareDeps,
  type Progress,
  release,
  selectWanted,
  type Unrendered,
  type Wanted,
} from './wanted.ts';

/** A draft with the bytes to send. */
export interface Sendable extends Draft {
  readonly body: string;
}

/** Who asked for bodies. */
export interface BodyAsker {
  /** Whether it is too late to render for an attempt under the present claims. */
  isLate(): boolean;
  /** Given drafts with bodies, which are stored and tied to them, and what became of others, as soon as they are there. */
  take(drafts: readonly Sendable[], progress: Progress): Promise<void>;
}

/** Until an event is rendered again whose rendering the database has failed. */
const DEFERRED_MS = 5_000;
/** So many are rendered in one turn of the event loop: those under way have to be answered, and the next begun. */
const TURN = 32;
/** Accounts of a batch that are rendered for at once: one whose documents are slow holds up no other. */
const ACCOUNTS_AT_ONCE = 32;

export interface Unstored {
  readonly drafts: readonly Unrendered[];
  readonly events: ReadonlyMap<number, EventRecord>;
}

/**
 * Renders what has no body yet, each once for equal (event, document, grants), stores it and ties the deliveries
 * to it: one after another for an account, in all batches of this process. What the database kept from being rendered comes
 * round again some seconds later. A webhook whose rendering breaks by a fault of ours is parked, it alone. What another
 * process has rendered meanwhile is rendered again, and its bytes are sent: to look for it first cost more.
 */
export async function renderBodies(deps: PrepareDeps, unstored: Unstored, asker: BodyAsker): Promise<void> {
  if (unstored.drafts.length === 0) return;
  const progress = noProgress();
  const wanted = selectWanted(deps, unstored, progress);
  await asker.take([], progress);
  const byAccount = [...Map.groupBy(wanted, ({ claim }) => claim.accountId).values()];
  const accounts = byAccount[Symbol.iterator]();
  const output = createOutput(deps, asker);
  await Promise.all(Array.from({ length: Math.min(ACCOUNTS_AT_ONCE, byAccount.length) }, renderAccounts));
  await output.written();

  /** All takers share one iterator. */
  async function renderAccounts(): Promise<void> {
    for (const each of accounts) await inTurn(deps, each, { isLate: asker.isLate, put: output.put });
  }
}

function noProgress(): Progress {
  return { ended: [], parked: new Map() };
}

function nameOf({ claim, key }: Draft): string {
  return `${claim.seq}:${key}`;
}

/** What came of rendering for these deliveries, which share a body. */
interface Rendered {
  readonly drafts: readonly Wanted[];
  readonly outcome: Rendering | { readonly status: 'late' | 'broken' | 'deferred' };
}

interface RenderTarget {
  isLate(): boolean;
  put(rendered: Rendered): void;
}

/** Waits for what earlier batches have of the same account. */
async function inTurn(deps: PrepareDeps, wanted: readonly Wanted[], target: RenderTarget): Promise<void> {
  const accountId = wanted[0]?.claim.accountId ?? '';
  const before = deps.turns.get(accountId);
  const turn = (async () => {
    await before;
    await renderEach(deps, wanted, target);
  })();
  deps.turns.set(accountId, turn);
  await turn;
  if (deps.turns.get(accountId) === turn) deps.turns.delete(accountId);
}

/** Never rejects. */
async function renderEach(deps: PrepareDeps, wanted: readonly Wanted[], target: RenderTarget): Promise<void> {
  let rendered = 0;
  for (const drafts of Map.groupBy(wanted, nameOf).values()) {
    if (++rendered % TURN === 0) await nextTurn();
    const [first] = drafts;
    if (first === undefined) continue;
    const outcome = target.isLate() ? ({ status: 'late' } as const) : await renderOne(deps, first);
    target.put({ drafts, outcome });
  }
}

async function renderOne(
  { engine, observe }: PrepareDeps,
  { webhook, event, view }: Wanted,
): Promise<Rendered['outcome']> {
  try {
    const document = view.documentOf(event.name);
    return await renderEvent({ engine, document, principal: view.principal, event, observe });
  } catch (error) {
    const fact = { webhook_id: webhook.id, event_id: event.id, error };
    if (error instanceof EngineError) {
      // one event whose rendering takes too long must hold up neither its batch nor its webhook
      observe({ name: 'delivery.render_deferred', level: 'warn', ...fact });
      return { status: 'deferred' };
    }
    observe({ name: 'delivery.render_broken', level: 'error', ...fact });
    return { status: 'broken' };
  }
}

interface Output {
  put(rendered: Rendered): void;
  /** @throws what kept some of it from being written or taken */
  written(): Promise<void>;
}

/** Stores what was rendered and passes it on; while one batch is being written the next gathers. */
function createOutput(deps: PrepareDeps, asker: BodyAsker): Output {
  let gathered: Rendered[] = [];
  let writing: Promise<void> | undefined;

  async function writeAll(): Promise<void> {
    while (gathered.length > 0) {
      const batch = gathered;
      gathered = [];
      await writeBatch(deps, batch, asker);
    }
    writing = undefined; // in the same turn as the look that found nothing, so that no `put` falls between
  }

  return {
    put(rendered) {
      gathered.push(rendered);
      if (writing !== undefined) return;
      writing = writeAll();
      // a failure stays, and is thrown by `written`
      writing.catch(() => {});
    },
    written: async () => {
      await writing;
    },
  };
}

async function writeBatch(deps: PrepareDeps, batch: readonly Rendered[], asker: BodyAsker): Promise<void> {
  const progress = noProgress();
  for (const rendered of batch) note(progress, rendered);
  const stored = await storeBodies(deps.engine.database, merge(batch.flatMap(toBody)));
  const sendable = batch.flatMap(({ drafts }) =>
    drafts.flatMap((draft) => {
      const body = stored.get(draft.claim.id);
      return body === undefined ? [] : [{ ...draft, body }];
    }),
  );
  await asker.take(sendable, progress);
}

/** One body for each key, with the claims of all accounts' batches. */
function merge(bodies: readonly FreshBody[]): FreshBody[] {
  const byName = Map.groupBy(bodies, ({ seq, key }) => `${seq}:${key}`);
  return [...byName.values()].flatMap((same) => {
    const [first] = same;
    return first === undefined ? [] : [{ ...first, claims: same.flatMap(({ claims }) => claims) }];
  });
}

/** What can't be sent ends, or waits for a repair. */
function note(progress: Progress, { drafts, outcome }: Rendered): void {
  for (const { claim, webhook } of drafts) {
    if (outcome.status === 'failed') {
      progress.ended.push({ claim, status: 'renderFailed', error: describeErrors(outcome.errors) });
    }
    if (outcome.status === 'broken') progress.parked.set(webhook.id, BROKEN);
    if (outcome.status === 'deferred') progress.ended.push({ claim, status: 'deferred', delayMs: DEFERRED_MS });
    if (outcome.status === 'broken' || outcome.status === 'late') release(progress, claim);
  }
}

function toBody({ drafts, outcome }: Rendered): FreshBody[] {
  const [first] = drafts;
  if (outcome.status !== 'rendered' || first === undefined) return [];
  const { claim, key, event } = first;
  const claims = drafts.map((draft) => draft.claim);
  return [{ seq: claim.seq, key, body: outcome.body, occurredAt: event.occurredAt, claims }];
}

function describeErrors(errors: readonly { readonly message: string; readonly path: string | null }[]): string {
  return errors.map(({ message, path }) => (path === null ? message : `${path}: ${message}`)).join('; ');
}
