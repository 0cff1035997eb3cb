/** The five-character SQLSTATE of a database error, or the code of a system error such as `ECONNREFUSED`; else undefined. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Whether the connection was lost or could not be made: Postgres's classes 08 and 57P, Node's system errors, what pg says. */
export function isDatabaseGone(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /^(08|57P|ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH)/.test(sqlState(error) ?? '') ||
    /^(Connection terminated|timeout exceeded when trying to connect)|is not queryable$/.test(error.message)
  );
}

/** Whether a lock was waited for longer than `lock_timeout`. */
export function isLockTimeout(error: unknown): boolean {
  return sqlState(error) === '55P03';
}
