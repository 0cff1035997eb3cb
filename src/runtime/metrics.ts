import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Observe } from './observe.ts';

/** The numbers of one process, in a registry of its own: two of them in one process do not mix. */
export interface Metrics {
  /** Counts an observation; fit to be an `Observe`. */
  readonly observe: Observe;
  /** The Prometheus text format, version 0.0.4. Reads each gauge. */
  readonly text: () => Promise<string>;
  /** Adds a gauge that is read at each `text()`. `read` must not throw. @throws Error if the name is taken */
  readonly gauge: (name: string, help: string, read: () => number) => void;
}

/** Values that one label may take; later ones are counted as `other`, so that no caller can make series without end. */
const MAX_LABEL_VALUES = 200;
/** Seconds: from a receiver in the same room to the 15 s after which an attempt is given up. */
const ATTEMPT_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15];

/**
 * Makes the process's metrics: Node's own (`process_*`, `nodejs_*`), `fanfare_observations_total{name}` for whatever is
 * observed, and what operators watch: events stamped and parked, gaps that were filled, attempts by outcome and time,
 * loops that fail at the moment. They count from the process's start.
 */
export function createMetrics(): Metrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  const record = createRecorder(register);
  return {
    observe: record,
    text: () => register.metrics(),
    gauge(name, help, read) {
      new Gauge({
        name,
        help,
        registers: [register],
        collect() {
          this.set(read());
        },
      });
    },
  };
}

function createRecorder(register: Registry): Observe {
  const registers = [register];
  const observations = new Counter({
    name: 'fanfare_observations_total',
    help: 'What the program reported of its work, by name; the log has the facts.',
    labelNames: ['name'],
    registers,
  });
  const stamped = new Counter({
    name: 'fanfare_events_stamped_total',
    help: 'Events that this process gave their position.',
    registers,
  });
  const parked = new Counter({
    name: 'fanfare_events_parked_total',
    help: 'Events emitted by SQL whose payload was found invalid; see the query parkedEvents.',
    registers,
  });
  const filled = new Counter({
    name: 'fanfare_feed_filled_events_total',
    help: 'Events that live streams had to read from Postgres because the bus did not bring them.',
    registers,
  });
  const attempts = new Histogram({
    name: 'fanfare_delivery_attempt_seconds',
    help: 'Attempts to call a webhook, by outcome: how many, and how long they took.',
    labelNames: ['outcome'],
    buckets: ATTEMPT_BUCKETS,
    registers,
  });
  const failing = new Gauge({
    name: 'fanfare_loop_failing',
    help: '1 while the last unit of a background loop failed, else 0.',
    labelNames: ['loop'],
    registers,
  });
  const [nameLabel, outcomeLabel, loopLabel] = [boundedLabel(), boundedLabel(), boundedLabel()];

  return ({ name, ...facts }) => {
    observations.inc({ name: nameLabel(name) });
    switch (name) {
      case 'relay.stamped':
        return stamped.inc(count(facts.events));
      case 'relay.checked':
        return parked.inc(count(facts.invalid));
      case 'feed.filled':
        return filled.inc(count(facts.events));
      case 'delivery.attempted':
        return attempts.observe({ outcome: outcomeLabel(facts.outcome) }, count(facts.duration_ms) / 1_000);
      case 'loop.failed':
        return failing.set({ loop: loopLabel(facts.loop) }, 1);
      case 'loop.recovered':
        return failing.set({ loop: loopLabel(facts.loop) }, 0);
    }
  };
}

/** An observer must not throw: a fact that is no count adds nothing. */
function count(fact: unknown): number {
  return typeof fact === 'number' && Number.isFinite(fact) && fact >= 0 ? fact : 0;
}

function boundedLabel(): (value: unknown) => string {
  const known = new Set<string>();
  return (value) => {
    if (typeof value !== 'string') return 'other';
    if (known.size < MAX_LABEL_VALUES) known.add(value);
    return known.has(value) ? value : 'other';
  };
}
