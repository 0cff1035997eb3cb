import type { Evidence } from './compare.ts';
import type { Deployment, Form } from './deployment.ts';
import type { Count } from './listeners.ts';

/** What there is to say of a run, beside what it proves. */
export interface RunFacts {
  readonly form: Form;
  readonly rows: number;
  readonly evidence: Evidence;
  readonly deployment: Deployment;
  /** By victim. */
  readonly killed: Readonly<Record<string, number>>;
  /** What each listener had in the end. */
  readonly counts: readonly Count[];
  /** How long after the log was read they had it. */
  readonly waitedMs: number;
  /** From the first call to the last acknowledgement. */
  readonly loadMs: number;
}

/** In one line: how much, how often, how long. */
export function describeRun(facts: RunFacts): string {
  const { form, rows, evidence, deployment, killed, counts, waitedMs, loadMs } = facts;
  const { ledger, log, callbacks, orders, total } = evidence;
  const repeats = callbacks.length - new Set(callbacks.map(({ webhookId }) => webhookId)).size;
  const starting = [...deployment.roles.values()].reduce((sum, role) => sum + role.kills.whileStarting, 0);
  const victims = Object.entries(killed).map(([name, count]) => `${name} ${count}`);
  const short = counts.filter(({ found }) => found < log.length);
  return [
    `${form}: ${rows} rows, ${orders.length} orders, total ${total}`,
    `${ledger.length} changes acknowledged in ${inSeconds(loadMs)}, ${log.length} events`,
    `killed: ${victims.join(', ')}, of these ${starting} while starting`,
    `${callbacks.length} callbacks, of these ${repeats} repeats`,
    `tries to connect again: ${counts.map(({ name, reconnects }) => `${name} ${reconnects}`).join(', ')}`,
    `the last event came ${inSeconds(waitedMs)} after the log was read`,
    ...(short.length > 0 ? [`short of events: ${JSON.stringify(short)}`] : []),
  ].join('; ');
}

export function inSeconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
