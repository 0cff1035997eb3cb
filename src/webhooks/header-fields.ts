import type { WebhookBuilder } from './graphql.ts';
import { MAX_VALUE_LENGTH } from './header-rules.ts';
import { MAX_HEADERS } from './sealed-headers.ts';

/** The types below, by name. */
export const BASIC_AUTH_INPUT = 'WebhookBasicAuthInput' as never;
export const HEADER = 'WebhookHeader' as never;

/** What is shown in place of any value: not even its length. */
const MASK = '********';

const FORM = `At most ${MAX_HEADERS}, each a text of 1 to ${MAX_VALUE_LENGTH} printable ASCII characters. Values are stored encrypted and never shown again.`;

/** Of the inputs. */
export const HEADERS_HELP = {
  create: `Sent along with each request: an object of values by name, such as \`{"x-api-key": "…"}\`. ${FORM}`,
  update: `Changes those that are named; null takes one away, what is not named stays. With another \`url\` name all of them. ${FORM}`,
  basicAuth: 'Sent as `authorization: Basic …`. `{}`: none. With another `url` give it anew.',
};

/** Declares how a webhook's headers are given and shown. */
export function declareHeaders(builder: WebhookBuilder): void {
  builder.inputType('WebhookBasicAuthInput', {
    description: 'Credentials for the receiver; stored encrypted and never shown again.',
    fields: (t) => ({
      username: t.string({ description: 'At most 255 characters, without a colon.' }),
      password: t.string({ description: 'At most 255 characters.' }),
    }),
  });
  builder.objectRef<string>('WebhookHeader').implement({
    description: 'A header that is sent along with each request.',
    fields: (t) => ({
      name: t.string({ description: 'In lower case.', resolve: (name) => name }),
      value: t.string({ description: `Always \`${MASK}\`: it may be a secret.`, resolve: () => MASK }),
    }),
  });
}
