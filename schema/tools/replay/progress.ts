import { countOf, type Phase, type Plan } from './plan.ts';
import type { Tally } from './run.ts';

/** Where progress is shown: `process.stderr` fits. */
export interface Terminal {
  readonly isTTY?: boolean | undefined;
  /** How wide a terminal is. @default 80 */
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export interface Progress {
  /** A call failed and is tried again; shown until a change is acknowledged. */
  trouble(reason: string): void;
  /** Takes the line away. */
  close(): void;
}

export interface ProgressOptions {
  readonly plan: Plan;
  readonly tally: Tally;
  readonly terminal: Terminal;
  /** Monotonic milliseconds. @default performance.now */
  readonly now?: () => number;
}

const REDRAW_MS = 200;
const LINE_MS = 5_000;
/** The rate is that of the last seconds: repeats of an earlier run are fast, and no measure of what follows. */
const RATE_OVER_MS = 10_000;

interface Sample {
  readonly phase: Phase;
  readonly finished: number;
  readonly atMs: number;
}

/** Shows how far a run is: on a terminal one line, drawn again and again, else a line every 5 s. */
export function openProgress({ plan, tally, terminal, now = () => performance.now() }: ProgressOptions): Progress {
  let samples: readonly Sample[] = [{ phase: tally.phase, finished: tally.finished, atMs: now() }];
  let trouble: { readonly reason: string; readonly changes: number } | undefined;
  const show = () => {
    const { phase, finished } = tally;
    const atMs = now();
    const recent = samples.filter((each) => each.phase === phase && atMs - each.atMs <= RATE_OVER_MS);
    samples = [...recent, { phase, finished, atMs }];
    const line = describeProgress({
      phase,
      finished,
      total: countOf(plan, phase),
      perSecond: rateOf(samples),
      trouble: trouble?.changes === tally.changes ? trouble.reason : undefined,
    });
    // a line that wraps could not be drawn over
    terminal.write(terminal.isTTY ? `\r${line.slice(0, (terminal.columns ?? 80) - 1)}\x1b[K` : `${line}\n`);
  };
  const timer = setInterval(show, terminal.isTTY ? REDRAW_MS : LINE_MS);
  return {
    trouble(reason) {
      const isNew = trouble?.changes !== tally.changes;
      trouble = { reason, changes: tally.changes };
      if (isNew && !terminal.isTTY) terminal.write(`${reason}; trying again\n`);
    },
    close() {
      clearInterval(timer);
      if (terminal.isTTY) terminal.write('\r\x1b[K');
    },
  };
}

export interface ProgressFacts {
  readonly phase: Phase;
  readonly finished: number;
  readonly total: number;
  /** Undefined until there is something to tell it by. */
  readonly perSecond: number | undefined;
  readonly trouble: string | undefined;
}

const BAR_WIDTH = 20;

/** `orders     [##########..........]  118/236  96/s  about 2 s left` */
export function describeProgress({ phase, finished, total, perSecond, trouble }: ProgressFacts): string {
  const filled = total === 0 ? BAR_WIDTH : Math.floor((finished / total) * BAR_WIDTH);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
  const pace = trouble === undefined ? describePace(total - finished, perSecond) : [`waiting: ${trouble}`];
  return [phase.padEnd(9), bar, `${finished}/${total}`, ...pace].join('  ');
}

function describePace(left: number, perSecond: number | undefined): readonly string[] {
  if (perSecond === undefined || perSecond === 0) return [];
  const seconds = Math.ceil(left / perSecond);
  const time = seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
  return [`${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`, `about ${time} left`];
}

function rateOf(samples: readonly Sample[]): number | undefined {
  const [first] = samples;
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.atMs === first.atMs) return undefined;
  return ((last.finished - first.finished) * 1_000) / (last.atMs - first.atMs);
}
