import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StartupError } from '../errors.ts';

/** The embedded server's own folder, locked: as long as it is open, no other process and no second caller opens it. */
export interface DataFolder {
  /** Real, absolute path: symbolic links are resolved. */
  readonly path: string;
  /**
   * The text of the secret file of that name, made by `make` and written with mode 0600 if there is none: whole or not at
   * all, also over `kill -9`. A file that others may read is tightened to 0600.
   *
   * @throws StartupError if the file can't be read or written, is not one line of printable characters, or
   * `describeFault` finds a fault in it (the end of a sentence, "found …", without the secret)
   */
  readOrCreateSecret(name: SecretName, make: () => string, options?: SecretOptions): string;
  /** Lets the folder go. Closing twice is harmless. */
  close(): void;
}

/** The files a data folder may keep secrets in. */
export type SecretName = 'admin-key' | 'secrets-key';

export interface SecretOptions {
  /** @default finds none */
  readonly describeFault?: (text: string) => string | undefined;
}

/**
 * Opens the folder, creating it with mode 0700 if missing, and locks it before anything else in it is touched.
 * Relative paths are relative to the working directory; every path to one folder is the same folder.
 *
 * The lock is an exclusive SQLite transaction on the empty file `lock`, that is a lock of the kernel on the file itself:
 * it goes with its process however that ends, a frozen process keeps it, a path of any length serves, and there is no
 * stale state to clean up. (A listening socket or a pid file must be removed after a crash, and two starters that both saw
 * the dead one remove each other's: with the pid file of the test's control, all of them win.) It holds between processes
 * of one machine, containers that share the folder included; not where somebody deletes `lock`, nor on network file
 * systems without locks. It is held until `close()` or the process's end, also when the caller forgets the result.
 *
 * @throws StartupError if another process holds it, or it is not a folder this user can write to
 */
export async function openDataFolder(dataDir: string): Promise<DataFolder> {
  const path = prepareFolder(dataDir);
  const lock = takeLock(path);
  const close = () => {
    process.off('exit', close);
    if (!lock.isOpen) return;
    // Before the lock goes: afterwards the file could be the next owner's.
    rmSync(join(path, 'pid'), { force: true });
    lock.close();
  };
  // Also what keeps the lock reachable: collected as garbage, it would open the folder to others.
  process.once('exit', close);
  return {
    path,
    readOrCreateSecret: (name, make, options = {}) =>
      readSecret(join(path, name), options) ?? createSecret(path, { name, text: make() }),
    close,
  };
}

function prepareFolder(dataDir: string): string {
  try {
    makeFolder(resolve(dataDir));
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
    return realpathSync(dataDir);
  } catch (cause) {
    throw new StartupError(
      `DATA_DIR: expected a folder this user can create and write to, found ${dataDir}: ${folderReason(cause)}; ` +
        'correct it or set another DATA_DIR',
      { cause },
    );
  }
}

/**
 * Not `mkdirSync`'s own `recursive`: where the parent exists and `mkdir` still answers ENOENT, as in /proc, that never
 * returns (Node 24.21).
 */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(path) !== path) makeFolder(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (cause) {
    // Another starter may have made it just now.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw cause;
  }
}

/** `mkdir` says EEXIST of a file in the folder's place, ENOTDIR of one above it. */
function folderReason(cause: unknown): string {
  return hasCode(cause, 'EEXIST') || hasCode(cause, 'ENOTDIR') ? 'a file is in its place' : reason(cause);
}

function takeLock(path: string): DatabaseSync {
  const lock = new DatabaseSync(join(path, 'lock'), { open: false, timeout: 0 });
  try {
    lock.open();
    // Nothing is ever written through it, so it needs no journal file beside it.
    lock.exec('pragma journal_mode = memory; begin exclusive');
    writeFileSync(join(path, 'pid'), `${process.pid}\n`);
    return lock;
  } catch (cause) {
    if (lock.isOpen) lock.close();
    throw new StartupError(isBusy(cause) ? describeHolder(path) : describeLockFault(path, cause), { cause });
  }
}

/** SQLITE_BUSY: the low byte is the primary code, higher ones only refine it. */
function isBusy(cause: unknown): boolean {
  return cause instanceof Error && 'errcode' in cause && Number(cause.errcode) % 256 === 5;
}

function describeHolder(path: string): string {
  return `another process${holderPid(path)} holds DATA_DIR ${path}; stop it or set another DATA_DIR`;
}

/** The holder writes its id just after it has the lock, so for an instant there may be none. */
function holderPid(path: string): string {
  try {
    const pid = /^\d+$/.exec(readFileSync(join(path, 'pid'), 'utf8').trim())?.[0];
    return pid === undefined ? '' : ` (pid ${pid})`;
  } catch {
    return '';
  }
}

function describeLockFault(path: string, cause: unknown): string {
  return (
    `DATA_DIR: can't lock ${path}: ${reason(cause)}; make the folder and its file "lock" writable on a file system ` +
    'that has locks, or set another DATA_DIR'
  );
}

function readSecret(file: string, { describeFault = () => undefined }: SecretOptions): string | undefined {
  const text = readPrivateFile(file)?.trim();
  if (text === undefined) return undefined;
  const fault = /^[\x21-\x7e]{1,1024}$/.test(text) ? describeFault(text) : 'something else than one line of text';
  if (fault === undefined) return text;
  throw new StartupError(
    `${file}: expected a secret of this installation, found ${fault}; restore the file from a backup: ` +
      'removing it makes a new secret, and what depends on the old one is lost',
  );
}

/** Undefined if there is no such file. Reads and tightens through one descriptor, so that both are the same file. */
function readPrivateFile(file: string): string | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    // Unconditional: chmod to the mode it has changes nothing, and needs the same ownership either way.
    fchmodSync(descriptor, 0o600);
    return readFileSync(descriptor, 'utf8');
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) return undefined;
    throw new StartupError(
      `${file}: can't be read as this user's own file: ${reason(cause)}; correct its permissions`,
      {
        cause,
      },
    );
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Temporary file, sync, rename, sync of the folder: after a crash there is the whole file or none. */
function createSecret(folder: string, { name, text }: { readonly name: string; readonly text: string }): string {
  const temporary = join(folder, `${name}.new`);
  try {
    // A leftover of a crash could have another mode; only the lock's holder writes here.
    rmSync(temporary, { force: true });
    writeFileSync(temporary, `${text}\n`, { mode: 0o600, flag: 'wx', flush: true });
    renameSync(temporary, join(folder, name));
    syncFolder(folder);
    return text;
  } catch (cause) {
    const remedy = 'free some space or correct the permissions of DATA_DIR';
    throw new StartupError(`${join(folder, name)}: can't be written: ${reason(cause)}; ${remedy}`, { cause });
  }
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function hasCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === code;
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
