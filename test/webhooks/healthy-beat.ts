import { setTimeout as wait } from 'node:timers/promises';
import { eventually } from '../support/eventually.ts';
import type { Written } from './note-log.ts';
import { openRequestBook } from './request-book.ts';

/** A webhook of an account of its own, at a receiver that answers at once. */
export interface HealthyBeat extends AsyncDisposable {
  /** Writes an event each `everyMs` for so long. @returns from the commit to the arrival of each, in ms */
  beat(forMs: number, everyMs: number): Promise<readonly number[]>;
  /** Writes so many events at once. @returns how many a second arrived, from the first to the last */
  drain(events: number): Promise<number>;
}

/** @param host by which it is called */
export async function openHealthyBeat({ engine, log }: Written, host = '127.0.0.1'): Promise<HealthyBeat> {
  await using opening = new AsyncDisposableStack();
  const book = await openRequestBook(() => 200);
  opening.defer(book.close);
  const accountId = await engine.addAccount();
  await engine.createWebhook(
    { url: book.url.replace('127.0.0.1', host), query: 'subscription { noteWritten { id } }', maxInFlight: 50 },
    { accountId },
  );
  const opened = opening.move();

  async function arrivals(eventIds: readonly string[]): Promise<readonly number[]> {
    const wanted = new Set(eventIds);
    const find = () => book.requests.filter(({ eventId }) => wanted.has(eventId));
    await eventually(() => find().length >= wanted.size, {
      deadlineMs: 120_000,
      describe: `${wanted.size} events to arrive`,
    });
    const at = new Map(find().map(({ eventId, atMs }) => [eventId, atMs]));
    return eventIds.map((id) => at.get(id) ?? Number.NaN);
  }

  return {
    async beat(forMs, everyMs) {
      const written = new Map<string, number>();
      const count = Math.ceil(forMs / everyMs);
      for (let n = 0; n < count; n++) {
        const ids = await log.write(accountId, [{ subjectId: 'note_1', text: `${n}` }]);
        for (const id of ids) written.set(id, Date.now());
        await wait(everyMs);
      }
      const times = await arrivals([...written.keys()]);
      return [...written.values()].map((atMs, n) => (times[n] ?? Number.NaN) - atMs);
    },
    async drain(events) {
      const notes = Array.from({ length: events }, (_, n) => ({ subjectId: `note_${n % 50}`, text: `${n}` }));
      const times = await arrivals(await log.write(accountId, notes));
      return (events / (Math.max(...times) - Math.min(...times))) * 1_000;
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** The value that so many percent are not above. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
}
