import type { EngineError } from '../errors.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { EventRecord } from '../outbox/read.ts';
import { toByteString } from '../runtime/byte-string.ts';

/** One result, serialized once for all who get it. */
export interface Frame {
  readonly position: number;
  readonly cursor: string;
  /** The execution result as JSON, with `extensions.cursor`, as a byte string: see `toByteString`. */
  readonly bytes: string;
}

/** A result that carries only a cursor: all up to there was handed over, or is nothing for this subscriber. */
export function checkpointFrame(position: number, cursor: string): Frame {
  return { position, cursor, bytes: toByteString(JSON.stringify({ extensions: { cursor } })) };
}

/** Where a subscriber's results go. Calls are synchronous; a sink that can't keep up ends itself. */
export interface Sink {
  next(frame: Frame): void;
  /** Resolves when the sink can take 32 KiB more, pushed at once: replay waits for it, live events do not. */
  ready(): Promise<void>;
  /** The stream is over: by an error that the client is told, or because the server says so. */
  end(error?: EngineError): void;
}

/** A result of GraphQL, as far as this room looks at it. */
export interface StreamResult {
  readonly errors?: readonly { readonly extensions?: Readonly<Record<string, unknown>> | undefined }[];
}

/** On whose behalf a stream is open: one object for all streams of a connection, whose principal may change. */
export interface StreamOwner {
  readonly principalId: string;
}

/** What a subscriber asks for. */
export interface StreamOrder {
  readonly accountId: string;
  /** All must hold; they are part of what `key` stands for. */
  readonly filters: readonly EventFilter[];
  /** Equal for subscribers whose results are equal: document, variables, and what they may see. */
  readonly key: string;
  /** A cursor to go on behind; undefined starts with the next event. Never part of `key`. */
  readonly after: string | undefined;
  /** Whether it is told where it stands: once it has caught up, and when it has moved on in silence. Never part of `key`. */
  readonly checkpoints: boolean;
  /** Scopes that the results depend on: the loss of one ends the stream. */
  readonly scopes: readonly string[];
  /** For revocation. Never part of `key`. */
  readonly owner: StreamOwner;
  /**
   * Runs the selection on an event: at once, unless something in it has to be awaited. A throw, a rejection, or an error
   * that passes, makes it be tried again.
   */
  readonly execute: (event: EventRecord) => StreamResult | Promise<StreamResult>;
}
