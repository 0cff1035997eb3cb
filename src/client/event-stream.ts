/** One server-sent event. */
export interface ServerSentEvent {
  /** @default 'message' */
  readonly event: string;
  readonly data: string;
}

/** An event that has not ended yet may be so long, in characters. */
const MAX_CHARS = 16 * 1024 * 1024;

/**
 * Reads `text/event-stream`, in pieces of any size. Comments, `id` and `retry` are left out: cursors are in the results, waits
 * are the client's. Throws an Error where one event is longer than 16 Mi characters.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export function createEventStreamReader(): (text: string) => readonly ServerSentEvent[] {
  let rest = '';
  let event = '';
  let data: string[] = [];
  let chars = 0;

  function readLine(line: string): ServerSentEvent | undefined {
    if (line === '') return endEvent();
    const at = line.indexOf(':');
    const name = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
    if (name === 'event') event = value;
    if (name === 'data') data.push(value);
    chars += value.length;
    return undefined;
  }

  function endEvent(): ServerSentEvent | undefined {
    const ended = data.length === 0 ? undefined : { event: event === '' ? 'message' : event, data: data.join('\n') };
    event = '';
    data = [];
    chars = 0;
    return ended;
  }

  return (text) => {
    // a "\r" at the end may be half of a "\r\n"
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    const events = lines.map(readLine).filter((each) => each !== undefined);
    if (rest.length + chars > MAX_CHARS) throw new Error(`an event is longer than ${MAX_CHARS} characters`);
    return events;
  };
}
