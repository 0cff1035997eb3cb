import { serveMethods } from '../worker.ts';
import { openReader, type Place, type Reader, type ReaderPlan } from './reader.ts';

/** Readers in a process of their own. */
export function createCrowdProgram() {
  let readers: readonly Reader[] = [];
  return {
    open(plans: readonly ReaderPlan[], place: Place): void {
      readers = plans.map((plan) => openReader(plan, place));
    },
    progress: () => readers.map((reader) => reader.progress()),
    records: () => readers.map((reader) => reader.record()),
    async close(): Promise<void> {
      await Promise.all(readers.map((reader) => reader.close()));
    },
  };
}

export type CrowdProgram = ReturnType<typeof createCrowdProgram>;

if (import.meta.main) serveMethods(createCrowdProgram());
