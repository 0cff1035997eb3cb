import { type Kysely, sql } from 'kysely';

/** Partitions of one table at a time. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  sql`drop function fanfare.make_partitions(date)`,
  // To attach a partition locks the table's default partition until the commit. One transaction that did so for two tables
  // waited for a reader that joins them and held one, while the reader waited for the other: a deadlock, which the reader lost.
  sql`create function fanfare.make_partitions(until date, of_table text) returns int language plpgsql as $$
    declare
      day date := (fanfare.now() at time zone 'UTC')::date - 1;
      child text;
      made int := 0;
    begin
      perform pg_advisory_xact_lock(hashtext('fanfare.make_partitions'));
      while day <= until loop
        child := of_table || '_' || to_char(day, 'YYYYMMDD');
        if to_regclass('fanfare.' || child) is null then
          execute format('create table fanfare.%I (like fanfare.%I including defaults)', child, of_table);
          begin
            execute format('alter table fanfare.%I attach partition fanfare.%I for values from (%L) to (%L)',
                           of_table, child, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
            made := made + 1;
          exception when check_violation then
            -- the default partition holds rows of that day: they stay there until they are pruned
            execute format('drop table fanfare.%I', child);
          end;
        end if;
        day := day + 1;
      end loop;
      return made;
    end
  $$`,
];
