import { Redis } from 'ioredis';
import pg from 'pg';
import { serveMethods } from '../../test/support/worker.ts';
import { steadily } from '../support/pace.ts';

export interface CommitPublishLoad {
  readonly perSecond: number;
  readonly count: number;
  /** Of the payload: written once, published once. */
  readonly bytes: number;
}

const CHANNEL = 'bench.baseline';

/** The least that a commit and a message through Redis can take: one insert on bare `pg`, then one publish on bare `ioredis`. */
export function createCommitPublish() {
  let pool: pg.Pool | undefined;
  let publisher: Redis | undefined;
  const begun = new Map<number, number>();
  let latencies: number[] = [];
  let complete = Promise.withResolvers<void>();

  function receive(text: string): void {
    const at = performance.now();
    const { number }: { number: number } = JSON.parse(text);
    latencies.push(at - (begun.get(number) ?? Number.NaN));
    begun.delete(number);
    if (begun.size === 0) complete.resolve();
  }

  return {
    async open({ databaseUrl, redisUrl }: { databaseUrl: string; redisUrl: string }): Promise<void> {
      pool = new pg.Pool({ connectionString: databaseUrl, max: 15 });
      await pool.query(
        'create table baseline (id bigint generated always as identity primary key, payload jsonb not null)',
      );
      publisher = new Redis(redisUrl);
      const subscriber = new Redis(redisUrl);
      subscriber.on('message', (_channel, text) => receive(text));
      await subscriber.subscribe(CHANNEL);
    },
    /** @returns ms from the start of each insert to the message's arrival: as many as were sent */
    async run({ perSecond, count, bytes }: CommitPublishLoad): Promise<readonly number[]> {
      latencies = [];
      complete = Promise.withResolvers();
      const padding = 'x'.repeat(Math.max(bytes - 30, 0));
      for (let number = 0; number < count; number++) begun.set(number, Number.NaN);
      await steadily({ perSecond, count }, async (number) => {
        const payload = JSON.stringify({ number, padding });
        begun.set(number, performance.now());
        await pool?.query('insert into baseline (payload) values ($1)', [payload]);
        await publisher?.publish(CHANNEL, payload);
      });
      await complete.promise;
      if (latencies.length !== count) throw new Error(`expected ${count} messages, found ${latencies.length}`);
      return latencies;
    },
  };
}

export type CommitPublish = ReturnType<typeof createCommitPublish>;

if (import.meta.main) serveMethods(createCommitPublish());
