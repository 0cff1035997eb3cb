/**
 * What a room reports of its work: one name, and facts whose keys carry their units (`duration_ms`).
 * Logs, metrics and tests all hang on this one callback; a room never logs or counts by itself.
 */
export interface Observation {
  /** `noun.verb` in the past tense: `relay.batch`, `delivery.attempted`. */
  readonly name: string;
  readonly [fact: string]: unknown;
}

/** Called synchronously, must not throw, must return at once. */
export type Observe = (observation: Observation) => void;

/** Observes nothing: the default where nobody listens. */
export const observeNothing: Observe = () => {};
