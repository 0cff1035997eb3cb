import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { sql } from 'kysely';
import type { DnsAnswer, DnsQuestion } from '../support/dns-server.ts';
import { eventually } from '../support/eventually.ts';
import type { Written } from './note-log.ts';

/** Webhooks of one account, attempts at which take as long as they may. */
export interface HostileCrowd extends AsyncDisposable {
  /** Gives each so many deliveries, and waits until this many are under way. */
  provoke(events: number, held: number): Promise<void>;
  /** Takes the deliveries away, and waits until nothing is under way. */
  calm(): Promise<void>;
}

/** What holds attempts up. */
export interface Mire {
  urlOf(webhook: number): string;
  /** Attempts that it holds. */
  held(): number;
  close(): Promise<void>;
}

/** @param mire closed with the crowd */
export async function openHostileCrowd({ engine, log }: Written, webhooks: number, mire: Mire): Promise<HostileCrowd> {
  await using opening = new AsyncDisposableStack();
  opening.defer(() => mire.close());
  const accountId = await engine.addAccount();
  for (let n = 0; n < webhooks; n++)
    await engine.createWebhook({ url: mire.urlOf(n), query: 'subscription { noteWritten { id } }' }, { accountId });
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
          if (mire.held() < held) throw new Error(`${mire.held()} are`);
          return true;
        },
        { describe: `${held} attempts to be held` },
      );
    },
    async calm() {
      await sql`delete from fanfare.delivery where account_id = ${accountId}`.execute(db);
      await sql`update fanfare.webhook set failures = 0, holds = 0, held_until = null where account_id = ${accountId}`.execute(
        db,
      );
      await eventually(() => mire.held() === 0, { deadlineMs: 60_000, describe: 'all attempts to be given up' });
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** A receiver that accepts and never answers. */
export async function openSilentReceiver(): Promise<Mire> {
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
    urlOf: (webhook) => `http://127.0.0.1:${port}/${webhook}`,
    held: () => held.size,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of held) socket.destroy();
      await closed;
    },
  };
}

/** Names of loopback, of which some are never answered for again once a registration has asked. */
export interface SilentNames extends Mire {
  answer(question: DnsQuestion): DnsAnswer;
}

const SILENT = '.silent.fanfare-test.com';
/** One that is always answered for. */
export const ANSWERED_NAME = 'healthy.fanfare-test.com';
/** A question is given up by then: two tries of 2 s, and a little. */
const GIVEN_UP_AFTER_MS = 4_500;

export function createSilentNames(): SilentNames {
  let askedAtMs: number[] = [];
  return {
    answer({ name, type, earlier }) {
      if (name.endsWith(SILENT) && earlier > 0) {
        if (type === 'A') askedAtMs.push(performance.now());
        return 'nothing';
      }
      return type === 'A' && name.endsWith('.fanfare-test.com') ? ['127.0.0.1'] : [];
    },
    urlOf: (webhook) => `http://n${webhook}${SILENT}:9/`,
    held() {
      const sinceMs = performance.now() - GIVEN_UP_AFTER_MS;
      askedAtMs = askedAtMs.filter((atMs) => atMs > sinceMs);
      return askedAtMs.length;
    },
    close: async () => {},
  };
}
