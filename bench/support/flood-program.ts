import pg from 'pg';
import { serveMethods } from '../../test/support/worker.ts';
import { type OpenEngine, openEngine } from './open-engine.ts';
import { steadily } from './pace.ts';

export interface Flood {
  readonly perSecond: number;
  /** A multiple of `batch`. */
  readonly events: number;
  /** Of one transaction. */
  readonly batch: number;
  /** Of one event's payload, about. */
  readonly bytes: number;
}

/** Few enough that the same statement captures them all, many enough that transactions under way do not share one. */
const SUBJECTS = 1_000;
const CONNECTIONS = 4;

/** Many large events, captured by SQL as another program would, with the hint that makes them be stamped at once. */
export function createFlood() {
  let pool: pg.Pool | undefined;
  let engine: OpenEngine | undefined;

  async function emit(from: number, { batch, bytes }: Flood): Promise<void> {
    await pool?.query(
      `select fanfare.emit('acc_default', 'stock.changed', 'prod_bench' || ((n + $1) % ${SUBJECTS}),
         jsonb_build_object('sku', repeat('x', $2), 'stock', n, 'by', 1, 'reason', 'ADJUSTED', 'orderId', null), array['stock'])
       from generate_series(1, $3) n`,
      [from, bytes, batch],
    );
    await engine?.hint();
  }

  return {
    /** @param env the settings of the processes whose database it changes */
    async open(env: Readonly<Record<string, string>>): Promise<void> {
      engine = await openEngine(env);
      pool = new pg.Pool({ connectionString: env.DATABASE_URL, max: CONNECTIONS });
    },
    /** Begins transactions at fixed times, whether those before were done or not. @returns how late the latest began, in ms */
    run: (flood: Flood): Promise<number> =>
      steadily({ perSecond: flood.perSecond / flood.batch, count: flood.events / flood.batch }, (at) =>
        emit(at * flood.batch, flood),
      ),
  };
}

export type FloodLoad = ReturnType<typeof createFlood>;

if (import.meta.main) serveMethods(createFlood());
