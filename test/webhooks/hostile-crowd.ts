import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { sql } from 'kysely';
import { eventually } from '../support/eventually.ts';
import type { Written } from './note-log.ts';

/** Webhooks of one account at a receiver that accepts and never answers. */
export interface HostileCrowd extends AsyncDisposable {
  /** Gives each so many deliveries, and waits until the receiver holds this many requests. */
  provoke(events: number, held: number): Promise<void>;
  /** Takes the deliveries away, and waits until no request is held. */
  calm(): Promise<void>;
}

export async function openHostileCrowd({ engine, log }: Written, webhooks: number): Promise<HostileCrowd> {
  await using opening = new AsyncDisposableStack();
  const sink = await openSilentReceiver();
  opening.defer(sink.close);
  const accountId = await engine.addAccount();
  for (let n = 0; n < webhooks; n++)
    await engine.createWebhook(
      { url: `${sink.url}/${n}`, query: 'subscription { noteWritten { id } }' },
      { accountId },
    );
  const opened = opening.move();
  const { db } = engine.services.database;
  return {
    async provoke(events, held) {
      await log.write(
        accountId,
        Array.from({ length: events }, (_, n) => ({ subjectId: 'note_1', text: `${n}` })),
      );
      await eventually(
        () => {
          if (sink.held.size < held) throw new Error(`${sink.held.size} are`);
          return true;
        },
        { describe: `${held} requests to be held` },
      );
    },
    async calm() {
      await sql`delete from fanfare.delivery where account_id = ${accountId}`.execute(db);
      await sql`update fanfare.webhook set failures = 0, holds = 0, held_until = null where account_id = ${accountId}`.execute(
        db,
      );
      await eventually(() => sink.held.size === 0, { deadlineMs: 60_000, describe: 'all requests to be given up' });
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function openSilentReceiver() {
  const held = new Set<Socket>();
  const server = createServer((socket) => {
    held.add(socket);
    socket.on('error', () => {}); // it is given up at the deadline
    socket.on('close', () => held.delete(socket));
    socket.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // an address, since it listens on TCP
  return {
    url: `http://127.0.0.1:${port}`,
    held,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of held) socket.destroy();
      await closed;
    },
  };
}
