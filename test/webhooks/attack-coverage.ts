/** Where an attack has its test: a file of this folder, and words that are in it. */
export interface Covered {
  readonly file: string;
  readonly words: string;
}

const at =
  (file: string) =>
  (words: string): Covered => ({ file: `${file}.test.ts`, words });
const answers = (words: string): Covered => ({ file: 'hostile-answers.ts', words });
const scene = (words: string): Covered => ({ file: 'hostile-scene.ts', words });
const attempt = at('attempt');
const tls = at('attempt-tls');
const guard = at('guard');
const sign = at('sign');
const rules = at('header-rules');

/** Attacks on webhooks by the ids of the list that `npm run test:long -- --attacks FILE` takes. */
export const COVERED: Readonly<Record<string, Covered>> = {
  'wh-never-answers': answers('never answers'),
  'wh-no-accept': scene('accepts no connection'),
  'wh-tls-stall': scene('never ends the handshake of TLS'),
  'wh-header-drip': answers('drips a legal header'),
  'wh-body-drip': answers('drips its body'),
  'wh-103-flood': answers('drips 103 without end'),
  'wh-infinite-body': answers('sends a body without end'),
  'wh-gzip-bomb': answers('sends a gzip bomb'),
  'wh-header-bomb': answers('sends a header of 1 MB'),
  'wh-redirect-loop': attempt('308 Permanent Redirect'),
  'wh-not-http': answers('speaks SSH'),
  'wh-cl-te': answers('gives two lengths'),
  'wh-101': answers('switches protocols unasked'),
  'wh-slow-accept-1000': at('hostile-webhooks.long')('beside 1,000 webhooks of one account'),
  'wh-410': at('notices')('of the end comes once when many are answered 410'),
  'wh-cert-expired': tls("'expired'"),
  'wh-cert-self-signed': tls("'self-signed'"),
  'wh-cert-wrong-host': tls("'of another host'"),
  'wh-tls-downgrade-http': tls('speaks plain HTTP'),
  'wh-cookie': attempt('sends no cookie back'),
  'wh-dns-flap': { file: 'rebinding.ts', words: 'is connected to at none of its forbidden addresses' },
  'wh-dns-tarpit': at('hostile-webhooks.long')('names for which no server answers'),
  'wh-dns-many-answers': guard('as many answers as a message holds'),
  'hdr-crlf-name': rules('a\\r\\nhost'),
  'hdr-latin1': rules('more than ASCII'),
  'hdr-host': rules("'Host'"),
  'hdr-signature-spoof': rules("'svix-id'"),
  'hdr-count': at('custom-headers')('are bounded in number and length'),
  'hdr-metadata': rules("'Metadata-Flavor'"),
  'url-all': at('callback-url')('never passes with a literal host that is not global'),
  'endpoint-enum-timing': at('registration')('refuses to call'),
  'sig-tampered-body': sign("replace('12.50', '12.51')"),
  'sig-tampered-id': sign("'webhook-id': 'dlv_2'"),
  'sig-tampered-ts': sign('NOW_S + 1)'),
  'sig-ts-minus-301': sign('NOW_S - 301'),
  'sig-ts-plus-301': sign('NOW_S + 301'),
  'sig-rotation': at('rotation')('signs along'),
  'sig-v1a-mixed': sign('passes over other signature schemes'),
  'sig-id-dot': sign('an ambiguous id'),
  'sig-kav': sign('equals the published known answer'),
  'sig-replay': at('receiver-kit')('handles each callback once'),
};

/** What nothing is done against yet. */
export const OPEN: Readonly<Record<string, string>> = {
  'self-loop':
    'a callback to the server itself is refused by its address unless that is allowed; there is no count of hops',
  'fanout-bomb': 'rates are per webhook; none per receiver over accounts',
};
