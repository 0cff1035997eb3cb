import type { ServerResponse } from 'node:http';

/** Whether nobody can get the answer, or any more of it: it has ended, or its connection has. */
export function isGone({ destroyed, req }: ServerResponse): boolean {
  return destroyed || req.socket.destroyed;
}

/**
 * Calls back once, when an answer has ended or its connection has, whichever is first; at once if that is so already.
 *
 * The answer alone does not tell: it may wait behind another one of its connection, and Node forgets those that wait when an
 * upgrade comes behind them, whether it is accepted or refused.
 */
export function whenGone(response: ServerResponse, tell: () => void): void {
  if (isGone(response)) return void tell();
  const { socket } = response.req;
  let isTold = false;
  const tellOnce = () => {
    // taken off one while that one's event is under way, it is called all the same
    if (isTold) return;
    isTold = true;
    response.off('close', tellOnce);
    socket.off('close', tellOnce);
    socket.setMaxListeners(socket.getMaxListeners() - 1);
    tell();
  };
  // many requests in a row on one connection are no leak, of which Node would warn
  socket.setMaxListeners(socket.getMaxListeners() + 1);
  socket.on('close', tellOnce);
  response.on('close', tellOnce);
}

/** Aborts when the client is gone before it has its answer: whoever works for it need not go on. */
export function hangUpSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  whenGone(response, () => {
    if (!response.writableFinished) gone.abort();
  });
  return gone.signal;
}
