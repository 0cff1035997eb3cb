const STATUS: Readonly<Record<string, number>> = {
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  LOOP_DETECTED: 508,
  RATE_LIMITED: 429,
  TIMEOUT: 503,
  UNAVAILABLE: 503,
  CURSOR_PENDING: 503,
  INTERNAL: 500,
};

/** The HTTP status of a request that came to nothing because of an error with this code; 400 for most. */
export function statusOf(code: unknown): number {
  return STATUS[String(code)] ?? 400;
}
