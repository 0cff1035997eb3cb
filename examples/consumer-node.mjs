// Works off a consumer's events, beside any number of its like: node examples/consumer-node.mjs [NAME] [URL]
import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';

const [name = 'accounting', url = 'http://127.0.0.1:4000/graphql'] = process.argv.slice(2);
const key = process.env.ADMIN_API_KEY ?? readFileSync('.fanfare/admin-key', 'utf8').trim();

async function ask(query, variables = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ query, variables: { name, ...variables } }),
    signal: AbortSignal.timeout(60_000),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(`${errors[0].extensions.code}: ${errors[0].message}`);
  return data;
}

async function workOff() {
  const { consumerPoll: batch } = await ask(`query ($name: String!) {
    consumerPoll(name: $name, waitMs: 20000) { events { id name position subjectId } cursor } }`);
  for (const event of batch.events) console.log('worked off', event.position, event.name, event.subjectId);
  if (batch.cursor === null) return;
  await ask(
    'mutation ($name: String!, $cursor: String!) { consumerAck(name: $name, cursor: $cursor) { __typename } }',
    {
      cursor: batch.cursor,
    },
  );
}

for (;;) {
  await workOff().catch(async (error) => {
    console.log('again in a second:', error.message); // what was not acked comes again
    await wait(1_000);
  });
}
