import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { withClient } from '../../test/support/postgres-client.ts';

interface ProfileNode {
  readonly id: number;
  readonly children?: readonly number[];
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

/** The part of a `.cpuprofile` that is read. */
interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  /** In microseconds. */
  readonly timeDeltas: readonly number[];
}

const SHOWN = 15;

/** Sums up the CPU profiles of a folder: what each process spent its time on, by room or package and by function, idle time left out. */
export function summarizeProfiles(dir: string): string {
  const files = readdirSync(dir).filter((file) => file.endsWith('.cpuprofile'));
  return files.map((file) => `${file}\n${summarizeProfile(join(dir, file))}`).join('\n\n');
}

function summarizeProfile(file: string): string {
  // what `node --cpu-prof` writes
  const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  const own = ownTimes(profile);
  const total = [...own.values()].reduce((sum, ms) => sum + ms, 0);
  const places = placesOf(profile.nodes);
  const byPlace = sumBy(profile.nodes, (node) => [places.get(node.id) ?? '', own.get(node.id) ?? 0]);
  const byName = sumBy(profile.nodes, (node) => [nameOf(node), own.get(node.id) ?? 0]);
  return [
    `  ${Math.round(total)} ms of work`,
    ...topLines(byPlace, total),
    '  by function:',
    ...topLines(byName, total),
  ].join('\n');
}

/** Milliseconds by node, without those of its children. */
function ownTimes({ nodes, samples, timeDeltas }: CpuProfile): ReadonlyMap<number, number> {
  const idle = new Set(nodes.filter(({ callFrame }) => callFrame.functionName === '(idle)').map(({ id }) => id));
  const own = new Map<number, number>();
  for (const [at, node] of samples.entries())
    if (!idle.has(node)) own.set(node, (own.get(node) ?? 0) + (timeDeltas[at] ?? 0) / 1_000);
  return own;
}

/** The room or package that each node works for: its own, or for Node's own functions that of the nearest caller. */
function placesOf(nodes: readonly ProfileNode[]): ReadonlyMap<number, string> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const places = new Map<number, string>();
  const visit = (node: ProfileNode, inherited: string) => {
    const place = placeOf(node.callFrame.url) ?? inherited;
    places.set(node.id, place);
    for (const id of node.children ?? []) {
      const child = byId.get(id);
      if (child) visit(child, place);
    }
  };
  const [root] = nodes;
  if (root) visit(root, 'Node itself');
  return places;
}

function placeOf(url: string): string | undefined {
  const inPackage = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  return inPackage ?? /\/((?:src|schema|bench)\/[^/]+)[/.]/.exec(url)?.[1];
}

function sumBy<T>(all: readonly T[], read: (each: T) => readonly [string, number]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const [name, ms] of all.map(read)) sums.set(name, (sums.get(name) ?? 0) + ms);
  return sums;
}

function topLines(sums: ReadonlyMap<string, number>, total: number): string[] {
  const top = [...sums].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  return top.map(([name, ms]) => `  ${((ms / total) * 100).toFixed(1).padStart(5)} %  ${name}`);
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const place = url === '' ? '' : ` ${url.replace(/^.*\/(node_modules|src|schema|bench)\//, '$1/')}:${lineNumber + 1}`;
  return `${functionName || '(anonymous)'}${place}`;
}

/** Begins to count statements anew, inside functions too. The server must have loaded `pg_stat_statements`. */
export async function countStatements(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query('create extension if not exists pg_stat_statements');
    await client.query('select pg_stat_statements_reset()');
  });
}

/** The statements that took most time since, those inside functions beside the functions' calls. */
export async function summarizeStatements(databaseUrl: string): Promise<string> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await topStatements(client);
    return rows.map(({ line }) => line).join('\n');
  });
}

function topStatements(client: pg.Client): Promise<pg.QueryResult<{ line: string }>> {
  return client.query(
    `select format('%s ms, %s of it planning  %s calls of %s ms  %s  %s', round(total_exec_time + total_plan_time), round(total_plan_time), calls,
                   round(((total_exec_time + total_plan_time) / calls)::numeric, 3), case when toplevel then 'called' else 'inside' end,
                   left(regexp_replace(query, '\\s+', ' ', 'g'), 160)) as line
     from pg_stat_statements where calls > 0 order by total_exec_time + total_plan_time desc limit $1`,
    [SHOWN],
  );
}
