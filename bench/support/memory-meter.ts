import { readFileSync, writeFileSync } from 'node:fs';

/** Starts to watch how much memory a process holds at most. Linux only. @returns what reads the peak so far, in bytes */
export function startPeakMeter(pid: number): () => number {
  // 5: the peak is what it holds now. @see https://docs.kernel.org/filesystems/proc.html
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  return () => readStatus(pid, 'VmHWM');
}

/** What the process holds in memory, in bytes. */
export function readResident(pid: number): number {
  return readStatus(pid, 'VmRSS');
}

function readStatus(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kib === undefined) throw new Error(`expected ${field} in the status of process ${pid}, found none`);
  return Number(kib) * 1024;
}
