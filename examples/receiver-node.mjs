// Receives callbacks and checks their signatures: WEBHOOK_SECRET=whsec_… node examples/receiver-node.mjs [PORT]
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks'; // npm install standardwebhooks

const webhook = new Webhook(process.env.WEBHOOK_SECRET ?? '');
const port = Number(process.argv[2] ?? 4001);

async function receive(request) {
  if (Number(request.headers['content-length'] ?? Infinity) > 1_000_000) return 413;
  const body = await buffer(request); // the bytes as they came: parsed and printed again they would not fit
  try {
    const { type, data } = webhook.verify(body, request.headers);
    console.log('verified', request.headers['webhook-id'], type, JSON.stringify(data));
    return 204; // anything but 2xx: the server tries again later
  } catch (error) {
    console.log('refused:', error.message);
    return 400;
  }
}

createServer((request, response) => {
  receive(request).then(
    (status) => response.writeHead(status).end(),
    () => response.destroy(),
  );
}).listen(port, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${port}`));
