import { sql } from 'kysely';
import type { Database } from '../../src/database/connect.ts';

/** That a worker of a fleet has claimed a delivery. */
export interface LoggedClaim {
  readonly deliveryId: string;
  readonly sender: string;
  /** In ms of the machine's clock. */
  readonly atMs: number;
}

/** Each claim by a worker in a process of its own, also where the worker was killed before it has sent anything. */
export interface ClaimLog {
  /** In the order of their times. */
  read(): Promise<readonly LoggedClaim[]>;
  close(): Promise<void>;
}

/** The database itself writes it: a worker is known by the name of its connections. One at a time. */
export async function openClaimLog({ db }: Database): Promise<ClaimLog> {
  await sql`create unlogged table public.claim_log (delivery_id text, sender text, at timestamptz)`.execute(db);
  await sql`create function public.log_claim() returns trigger language plpgsql as $$
    begin
      insert into public.claim_log values (new.id, current_setting('application_name'), clock_timestamp());
      return null;
    end
  $$`.execute(db);
  await sql`create trigger log_claim after update on fanfare.delivery for each row
    when (new.generation > old.generation) execute function public.log_claim()`.execute(db);
  return {
    async read() {
      const { rows } = await sql<LoggedClaim>`
        select delivery_id as "deliveryId", sender, (extract(epoch from at) * 1000)::float8 as "atMs"
        from public.claim_log order by at
      `.execute(db);
      return rows;
    },
    async close() {
      await sql`drop trigger log_claim on fanfare.delivery`.execute(db);
      await sql`drop function public.log_claim`.execute(db);
      await sql`drop table public.claim_log`.execute(db);
    },
  };
}
