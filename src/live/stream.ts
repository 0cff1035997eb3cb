import type { EngineError } from '../errors.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { EventRecord } from '../outbox/read.ts';

/** One result, serialized once for all who get it. */
export interface Frame {
  readonly position: number;
  /** The execution result as JSON, with `extensions.cursor`. */
  readonly body: string;
  readonly cursor: string;
}

/** Where a subscriber's results go. Calls are synchronous; a sink that can't keep up ends itself. */
export interface Sink {
  next(frame: Frame): void;
  /** Resolves when the sink can take a page more: replay waits for it, live events do not. */
  ready(): Promise<void>;
  /** The stream is over: by an error that the client is told, or because the server says so. */
  end(error?: EngineError): void;
}

/** A result of GraphQL, as far as this room looks at it. */
export interface StreamResult {
  readonly errors?: readonly { readonly extensions?: Readonly<Record<string, unknown>> | undefined }[];
}

/** What a subscriber asks for. */
export interface StreamOrder {
  readonly accountId: string;
  /** All must hold; they are part of what `key` stands for. */
  readonly filters: readonly EventFilter[];
  /** Equal for subscribers whose results are equal: document, variables, and what they may see. */
  readonly key: string;
  /** A cursor to go on behind; undefined starts with the next event. */
  readonly after: string | undefined;
  /** Scopes that the results depend on: the loss of one ends the stream. */
  readonly scopes: readonly string[];
  /** The principal, for revocation. Never part of `key`. */
  readonly ownerId: string;
  /** Runs the selection on an event. A rejection, or an error that passes, makes it be tried again. */
  readonly execute: (event: EventRecord) => Promise<StreamResult>;
}
