import type { Evidence } from './compare.ts';
import { openControls } from './controls.ts';
import { type Deployment, deploy, type Form } from './deployment.ts';
import { readInvoiceFile } from './invoice-file.ts';
import { listen } from './listeners.ts';
import { createMarker, pullLog, pullOrders } from './log.ts';
import { startReplay } from './replay-client.ts';
import { describeRun, inSeconds } from './report.ts';
import { drawSchedule } from './schedule.ts';
import { stands, strikeAll } from './strikes.ts';
import { wholeEvent } from './whole-event.ts';

export interface KillRunOptions {
  readonly form: Form;
  readonly file: string;
  /** Only so many invoices of it. @default all */
  readonly invoices?: number;
  /** How often each process of the form, or `redis`, is killed at least. @default none */
  readonly kills?: Readonly<Record<string, number>>;
  /** Of the schedule. */
  readonly seed: number;
  /** Calls of the replay tool at a time. @default 8 */
  readonly concurrency?: number;
}

/** What a run gives to be judged. */
export interface KillRun {
  readonly evidence: Evidence;
  /** The negative controls: the ids that each of them got, though it listened still at the end. */
  readonly controls: Readonly<Record<string, ReadonlySet<string>>>;
  /** By victim. */
  readonly kills: Readonly<Record<string, number>>;
  /** Of the replay tool, and of the processes when they were told to stop. */
  readonly exitCodes: Readonly<Record<string, number | null>>;
  /** Counts and durations; what the replay tool printed, if it did not do all. */
  readonly report: string;
}

/**
 * Replays a file of invoices into a deployment while its processes are killed by a schedule, listens on every channel, and
 * gives what all of them saw. Kills happen by progress: when so many changes are acknowledged.
 */
export async function killRun(options: KillRunOptions): Promise<KillRun> {
  await using opened = new AsyncDisposableStack();
  const startedAt = performance.now();
  const deployment = await deploy(options.form);
  opened.defer(deployment.close);
  const run = await replayUnderKills(deployment, options);
  const exitCodes = { ...run.exitCodes, ...(await deployment.stop()) };
  return { ...run, exitCodes, report: `${run.report}; ${inSeconds(performance.now() - startedAt)} in all` };
}

async function replayUnderKills(deployment: Deployment, options: KillRunOptions): Promise<KillRun> {
  const { invoices, kills = {}, concurrency = 8 } = options;
  const file = await readInvoiceFile(options.file, invoices === undefined ? {} : { first: invoices });
  const schedule = drawSchedule({ seed: options.seed, kills, changes: file.changes });
  const query = wholeEvent();
  await using opened = new AsyncDisposableStack();
  const listeners = await listen(deployment, query.watch);
  opened.defer(listeners.close);
  const controls = await openControls(deployment, { query: query.watch, isKilled: schedule.length > 0 });
  opened.defer(controls.close);
  const door = { url: deployment.api.url, key: deployment.key };
  const marker = createMarker(door);
  const client = startReplay({ path: file.path, ...door, concurrency, invoices });
  opened.defer(client.kill);

  const startedAt = performance.now();
  const killed = await strikeAll({ deployment, marker, client, controls }, schedule);
  const exitCode = await client.ended;
  const loadMs = performance.now() - startedAt;
  await stands({ deployment, marker });
  await controls.hear(marker.mark);
  const log = await pullLog(door, query.pull);
  const { counts, waitedMs } = await listeners.have(log.length);
  const evidence = {
    ledger: [...client.ledger(), ...marker.ledger],
    log,
    streams: listeners.streams(),
    callbacks: [...listeners.callbacks],
    orders: await pullOrders(door),
    total: file.total,
  };
  const facts = { form: options.form, rows: file.rows, evidence, deployment, killed, counts, waitedMs, loadMs };
  const report = exitCode === 0 ? describeRun(facts) : `${client.output()}\n${describeRun(facts)}`;
  return { evidence, controls: controls.ids(), kills: killed, exitCodes: { replay: exitCode }, report };
}
