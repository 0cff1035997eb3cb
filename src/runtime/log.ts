import {
  type DestinationStream,
  type Level,
  type LevelWithSilent,
  type Logger,
  pino,
  stdSerializers,
  stdTimeFunctions,
} from 'pino';
import type { Observe } from './observe.ts';

/** `write(line)` gets one whole JSON line, newline included. */
export type LogDestination = DestinationStream;

export interface LogOptions {
  /** Lines below it are dropped before they are built. @default 'info' */
  readonly level?: LevelWithSilent;
  /** Where lines go. @default standard output, written synchronously */
  readonly destination?: LogDestination;
}

/**
 * Builds the process's log: one JSON object per line with `level` (a word), `time` (ISO 8601 UTC), `pid`, `hostname`,
 * the facts, and `msg`. Facts under a key that names a secret, at any depth, are replaced by `[redacted]`.
 * Does not look inside strings: a secret in a message or under a harmless key is printed.
 */
export function createLog({ level = 'info', destination }: LogOptions = {}): Logger {
  const options = {
    level,
    timestamp: stdTimeFunctions.isoTime,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (facts: Record<string, unknown>) => redactEntries(facts, 0),
    },
    serializers: { err: serializeError, error: serializeError },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/**
 * Writes each observation as one wide line: its name is `msg`, its facts are the keys.
 * A fact `level` that names a level chooses the line's, else it is `info`; it is not printed twice.
 */
export function observeToLog(log: Pick<Logger, Level>): Observe {
  return ({ name, level, ...facts }) => log[isLineLevel(level) ? level : 'info'](facts, name);
}

function isLineLevel(level: unknown): level is Level {
  // pino lists `silent` among its levels; a line can't have it.
  return typeof level === 'string' && level !== 'silent' && Object.hasOwn(pino.levels.values, level);
}

/** `key`, `api_key`, `apiKey`, `Authorization`, `set-cookie`; but not `key_id` or `keyboard`. */
const SECRET_NAME = /(?:^|[_-])(?:secret|authorization|password|key|token|cookie)s?$/;
const MAX_DEPTH = 6;

function redactEntries(facts: object, depth: number): Record<string, unknown> {
  return Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, redact(key, value, depth)]));
}

function redact(key: string, value: unknown, depth: number): unknown {
  if (value !== undefined && value !== null && namesSecret(key)) return '[redacted]';
  if (Array.isArray(value))
    return depth === MAX_DEPTH ? '[too deep]' : value.map((item) => redact('', item, depth + 1));
  // Only plain objects are walked; errors, dates and the like have serializers of their own.
  if (!isPlainObject(value)) return value;
  return depth === MAX_DEPTH ? '[too deep]' : redactEntries(value, depth + 1);
}

function namesSecret(key: string): boolean {
  return SECRET_NAME.test(key.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toLowerCase());
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** Drivers hang whole configurations on their errors, so an error's own properties are redacted like facts. */
function serializeError(error: unknown): unknown {
  return error instanceof Error ? redactEntries(stdSerializers.err(error), 0) : error;
}
