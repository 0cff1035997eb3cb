// Shows the orders so far, and then each one that is placed: watched over a WebSocket, and called back.
//   node examples/typed-client/main.ts [URL] [PORT OF THE RECEIVER]
import { readFileSync } from 'node:fs';
import { ask, type Server } from './ask.ts';
import {
  DeleteWebhookDocument,
  HeadDocument,
  WatchedOrdersDocument,
  type WatchedOrdersSubscription,
} from './documents.ts';
import { type PlacedOrder, pullOrders, watchOrders } from './orders.ts';
import { openReceiver, registerWebhook } from './receiver.ts';

const [url = 'http://127.0.0.1:4000/graphql', port = '4002'] = process.argv.slice(2);
const key = process.env.ADMIN_API_KEY ?? readFileSync('.fanfare/admin-key', 'utf8').trim();
const server: Server = { url, key };
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopping.abort());

const { id, secret } = await registerWebhook(server, WatchedOrdersDocument, `http://127.0.0.1:${port}/orders`);
try {
  await openReceiver<WatchedOrdersSubscription>(
    { port: Number(port), secret, onCallback: ({ data }) => show('called back', data) },
    stopping.signal,
  );

  // before the first page: what happens from here on is either on a page or watched, and nothing falls in between
  let { head: last } = await ask(server, HeadDocument, {});
  for await (const order of pullOrders(server)) {
    show('pulled', order);
    last = order.cursor;
  }
  await watchOrders(server, { after: last, signal: stopping.signal, onOrder: (order) => show('watched', order) });
} finally {
  stopping.abort(); // closes the receiver, whatever ended this
  await ask(server, DeleteWebhookDocument, { id }); // or it would be called on, and nobody there
}

function show(how: string, event: PlacedOrder): void {
  const { total, lines } = event.order;
  console.log(
    `${how}: ${event.position} ${total.amount} ${total.currency} for ${lines.length} lines, ${event.occurredAt}`,
  );
}
