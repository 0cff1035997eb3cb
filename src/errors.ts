/**
 * Codes in `errors[].extensions.code`. They are the API: clients match on them, never on messages.
 */
export const ERROR_CODES = [
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'NOT_FOUND',
  'BAD_INPUT',
  'CONFLICT',
  'LOOP_DETECTED',
  'RATE_LIMITED',
  'COST_EXCEEDED',
  'INVALID_CURSOR',
  'CURSOR_EXPIRED',
  'CURSOR_PENDING',
  'EPOCH_CHANGED',
  'GRAPHQL_PARSE_FAILED',
  'GRAPHQL_VALIDATION_FAILED',
  'DOCUMENT_NOT_TRUSTED',
  'TIMEOUT',
  'UNAVAILABLE',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/**
 * A failure the client is told about: its message is safe to show, its code is stable.
 * Anything that is not an `EngineError` reaches clients masked, as `INTERNAL` with the request's id.
 */
export class EngineError extends Error {
  readonly code: ErrorCode;
  /** Further machine-readable facts for `errors[].extensions`, such as the earliest cursor. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'EngineError';
    this.code = code;
    this.details = options.details ?? {};
  }
}

/**
 * A refusal: the caller's fault, foreseen by the schema, and one member of the mutation's result union.
 * A subclass declares its wire code as `static readonly code` and its extra fields as properties;
 * raising it inside `run` rolls the change back.
 */
export abstract class Refusal extends Error {
  static readonly code: string;

  /** The class's static code, as the value of the GraphQL enum `RefusalCode`. */
  get code(): string {
    return (this.constructor as typeof Refusal).code;
  }

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/**
 * The process can't start or go on as it was told to: settings, a port, a folder, a server that can't be reached.
 * `main` prints the message alone, without a stack, and exits with 1.
 */
export class StartupError extends Error {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'StartupError';
  }
}
