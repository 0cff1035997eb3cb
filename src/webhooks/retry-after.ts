/**
 * Reads a `Retry-After` header: seconds, or an HTTP-date in any of its three forms.
 *
 * @param nowMs Unix milliseconds, against which a date is measured
 * @returns ms from now, at least 0; undefined if the header is absent or of no such form
 * @see RFC 9110 section 10.2.3; for the dates, section 5.6.7
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  // Any run of digits is legal; past the cap only the fact counts.
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, Number.MAX_SAFE_INTEGER);
  const at = parseHttpDate(text, nowMs);
  return at === undefined ? undefined : Math.max(0, at - nowMs);
}

/** `Date.parse` alone would take "5", and read a date without a zone as local. */
const IMF_FIXDATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;
const RFC_850 = /^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (\d{2})-([A-Z][a-z]{2})-(\d{2}) (\d{2}:\d{2}:\d{2}) GMT$/;
const ASCTIME = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}:\d{2}:\d{2}) (\d{4})$/;

/** A sender may write the first only; a recipient must read all three. */
function parseHttpDate(text: string, nowMs: number): number | undefined {
  if (IMF_FIXDATE.test(text)) return timeOf(text);
  const [, day, month, year, time] = RFC_850.exec(text) ?? [];
  if (year !== undefined) return nearestCentury(`${day} ${month}`, `${year} ${time} GMT`, nowMs);
  const [, asctimeMonth, asctimeDay, asctime, asctimeYear] = ASCTIME.exec(text) ?? [];
  if (asctimeYear === undefined) return undefined;
  return timeOf(`${asctimeDay?.trim()} ${asctimeMonth} ${asctimeYear} ${asctime} GMT`);
}

/** Two digits of a year that would be more than 50 years ahead are of the century before. */
function nearestCentury(day: string, rest: string, nowMs: number): number | undefined {
  const at = timeOf(`${day} 20${rest}`);
  return at !== undefined && at > nowMs + FIFTY_YEARS_MS ? timeOf(`${day} 19${rest}`) : at;
}

const FIFTY_YEARS_MS = 50 * 365.25 * 86_400_000;

function timeOf(text: string): number | undefined {
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : at;
}
