import { setTimeout as wait } from 'node:timers/promises';
import { inject } from 'vitest';
import { startWorker, type Worker } from '../worker.ts';
import type { CrowdProgram } from './crowd-program.ts';
import type { Place, Progress, ReaderPlan } from './reader.ts';
import type { Record } from './record.ts';

/** Readers, spread over a few processes. */
export interface Crowd {
  progress(): Promise<Progress[]>;
  /**
   * Waits until each careful reader has got this far, or nothing has come to any of them for a while: what is missing
   * then, its record shows.
   * @returns how long that took, in ms
   */
  reach(positions: (progress: Progress) => number): Promise<number>;
  /** In the order of `progress`. */
  records(): Promise<Record[]>;
  close(): Promise<void>;
}

const PROGRAM = new URL('./crowd-program.ts', import.meta.url);
/** Above all retries and time-outs of clients and server. */
const STILLNESS_MS = 30_000;

export async function openCrowd(
  plans: readonly ReaderPlan[],
  { processes, ...place }: Place & { readonly processes: number },
): Promise<Crowd> {
  const workers: Worker<CrowdProgram>[] = [];
  for (let at = 0; at < processes; at += 1) {
    const worker = startWorker<CrowdProgram>(PROGRAM, { cwd: inject('run').scratchDir, execArgv: [] });
    workers.push(worker);
    await worker.call(
      'open',
      plans.filter((_plan, index) => index % processes === at),
      place,
    );
  }
  const progress = async () => (await Promise.all(workers.map((worker) => worker.call('progress')))).flat();
  return {
    progress,
    async reach(positionFor) {
      const from = performance.now();
      let best = -1;
      for (let stillSince = from; ; await wait(100)) {
        const all = (await progress()).filter(({ resume }) => resume === 'last');
        const sum = all.reduce((total, { count }) => total + count, 0);
        if (sum > best) stillSince = performance.now();
        best = sum;
        const hasAll = all.every((each) => each.last >= positionFor(each));
        if (hasAll || performance.now() - stillSince > STILLNESS_MS) return performance.now() - from;
      }
    },
    records: async () => (await Promise.all(workers.map((worker) => worker.call('records')))).flat(),
    async close() {
      await Promise.all(workers.map((worker) => worker.call('close').catch(() => {}))); // it may have ended already
      await Promise.all(workers.map((worker) => worker.stop()));
    },
  };
}
