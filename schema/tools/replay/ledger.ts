import { closeSync, openSync, writeSync } from 'node:fs';
import { ToolError } from '../command-line.ts';
import type { Acknowledgement } from '../store.ts';

export interface Ledger {
  /** Appends one line of JSON; when it returns, the line outlives this process. */
  write(line: Acknowledgement): void;
  close(): void;
}

/**
 * Opens a file to append to.
 * @throws ToolError if it can't be written
 */
export function openLedger(path: string): Ledger {
  const file = attempt(path, () => openSync(path, 'a'));
  return {
    write: (line) => void attempt(path, () => writeSync(file, `${JSON.stringify(line)}\n`)),
    close: () => closeSync(file),
  };
}

/** Where none is asked for. */
export const NO_LEDGER: Ledger = { write: () => {}, close: () => {} };

function attempt<Value>(path: string, write: () => Value): Value {
  try {
    return write();
  } catch (error) {
    throw new ToolError(`the ledger ${path} can't be written: ${error instanceof Error ? error.message : error}`);
  }
}
