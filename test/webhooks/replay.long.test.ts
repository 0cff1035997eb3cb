import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readHead } from '../../src/outbox/read.ts';
import { createSequencer } from '../../src/outbox/sequencer.ts';
import { runReplays } from '../../src/webhooks/replayer.ts';
import { eventually } from '../support/eventually.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

/** Of the replay: up to a million. At 100,000 the whole takes some minutes on two cores. */
const DELIVERIES = Number(process.env.FANFARE_REPLAY_DELIVERIES ?? 100_000);
const ONE_RUN_MS = 3_600_000;

setFlagsFromString('--expose-gc');
/** Without it, what waits for the collector would count as held. */
const collect = runInNewContext('gc') as () => void;

/** In MiB. */
function measureHeld(): number {
  collect();
  return process.memoryUsage().heapUsed / 1_048_576;
}

interface Counts {
  readonly status: string;
  readonly created: number;
  readonly pending: number;
  readonly succeeded: number;
}

describe(`a replay of ${DELIVERIES} deliveries`, () => {
  let engine: WebhookEngine;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
  });
  afterAll(() => engine?.close());

  /** Counts requests, keeps none. */
  async function openSink() {
    const positions = new Uint8Array(DELIVERIES + 1);
    let requests = 0;
    const server = createServer((request, response) => {
      request.resume().on('end', () => {
        requests++;
        const at = engine.services.cursors.decode('acc_default', String(request.headers['fanfare-cursor']));
        if (at.kind === 'position') positions[at.position] = (positions[at.position] ?? 0) + 1;
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo; // it listens on TCP
    const close = () => new Promise((resolve) => server.close(resolve));
    return { url: `http://127.0.0.1:${port}/`, positions, requests: () => requests, close };
  }

  async function capture(): Promise<void> {
    for (let from = 1; from <= DELIVERIES; from += 5_000) {
      await sql`
        select fanfare.append('acc_default', 'note.written', 'note_' || n, jsonb_build_object('note', jsonb_build_object('noteId', 'note_' || n, 'text', 'x')),
                              null, 1, null, null, null, true)
        from generate_series(${from}::int, ${Math.min(from + 4_999, DELIVERIES)}::int) n`.execute(
        engine.services.database.db,
      );
    }
    await stamp();
  }

  /** With leases that last over it. */
  async function stamp(): Promise<void> {
    const { database, catalog } = engine.services;
    const observe = () => {};
    const publish = async () => {};
    const sequencer = createSequencer({ database, catalog, publish, observe, owner: 'test', steal: true });
    do await sequencer.keepLeases();
    while ((await sequencer.stampBatch()) === 'more');
    await sequencer.release();
  }

  it(
    'sends each event once, with few open ones, in flat memory, and with cheap counts',
    async () => {
      const { db } = engine.services.database;
      await capture();
      expect(await readHead(db, 'acc_default')).toBe(DELIVERIES);
      const sink = await openSink();
      const { id: webhookId } = await engine.createWebhook({
        url: sink.url,
        eventTypes: ['NOTE_WRITTEN'],
        maxInFlight: 50,
      });
      const startAfter = engine.services.cursors.encode('acc_default', { kind: 'position', position: 0 });
      const begin =
        'mutation ($input: DeliveriesReplayInput!) { deliveriesReplay(input: $input) { ... on DeliveriesReplaySuccess { replay { id } } } }';
      const { deliveriesReplay } = await engine.run<{ deliveriesReplay: { replay: { id: string } } }>(begin, {
        variables: { input: { webhookId, startAfter, missing: true } },
      });
      const { id } = deliveriesReplay.replay;

      const ending = new AbortController();
      const worker = engine.createWorker({ observe: () => {} });
      const deps = { engine: engine.services, observe: () => {}, onBorn: () => worker.wake() };
      const startedAt = performance.now();
      const running = [worker.run(ending.signal), runReplays(deps, ending.signal)];
      const seen = { open: 0, heapMb: [] as number[], shownMs: [] as number[] };
      try {
        await eventually(
          async () => {
            const askedAt = performance.now();
            const { replay } = await engine.run<{ replay: Counts }>(
              'query ($id: ID!) { replay(id: $id) { status created pending succeeded } }',
              { variables: { id } },
            );
            seen.shownMs.push(performance.now() - askedAt);
            seen.open = Math.max(seen.open, replay.pending);
            seen.heapMb.push(measureHeld());
            return replay.status === 'DONE';
          },
          { deadlineMs: ONE_RUN_MS, everyMs: 1_000 },
        );
      } finally {
        ending.abort();
        await Promise.all(running);
        await sink.close();
      }
      const seconds = (performance.now() - startedAt) / 1_000;
      const quarter = Math.max(seen.heapMb.length >> 2, 1);
      const growthMb = Math.min(...seen.heapMb.slice(-quarter)) - Math.min(...seen.heapMb.slice(0, quarter));
      const shownMs = seen.shownMs.sort((a, b) => a - b)[seen.shownMs.length >> 1] ?? 0;
      process.stdout.write(
        `${JSON.stringify({ deliveries: DELIVERIES, seconds, per_second: DELIVERIES / seconds, most_open: seen.open, growth_mb: growthMb, shown_ms: shownMs })}\n`,
      );
      expect(sink.requests()).toBe(DELIVERIES);
      expect(sink.positions.slice(1).every((count) => count === 1)).toBe(true);
      expect(seen.open).toBeLessThanOrEqual(1_000);
      expect(growthMb).toBeLessThan(20);
      const { rows } = await sql<{ left: number }>`select count(*)::int as left from fanfare.replay_tally`.execute(db);
      expect(rows).toEqual([{ left: 0 }]);
    },
    ONE_RUN_MS,
  );
});
