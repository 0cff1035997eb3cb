import type { Client, Event, EventListener } from 'graphql-ws';

/** Listeners of a client, by the names and arguments of graphql-ws. */
export type Listeners = { readonly [E in Event]?: EventListener<E> };

/** Calls the listeners of a client. */
export interface Emitter {
  readonly on: Client['on'];
  emit<E extends Event>(event: E, ...args: Parameters<EventListener<E>>): void;
}

/** Builds one; those that it is given are called first, as in graphql-ws. */
export function createEmitter(first: Listeners = {}): Emitter {
  type Listener = (...args: unknown[]) => void;
  // each event's listeners take that event's arguments: `on` and `emit` below check it, a map can not
  const listeners = new Map(Object.entries(first).map(([event, listener]) => [event, [listener as Listener]]));
  return {
    on(event, listener) {
      const all = listeners.get(event) ?? [];
      const mine: Listener = (...args) => (listener as Listener)(...args); // its own, so that one may be given twice
      listeners.set(event, [...all, mine]);
      return () => void listeners.set(event, listeners.get(event)?.filter((each) => each !== mine) ?? []);
    },
    emit(event, ...args) {
      for (const listener of listeners.get(event) ?? []) listener(...args);
    },
  };
}
