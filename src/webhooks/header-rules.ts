/** Characters of one header's name. */
export const MAX_NAME_LENGTH = 64;
/** Characters of one header's value. */
export const MAX_VALUE_LENGTH = 1_000;

/**
 * Says why a webhook may not send a header of this name; undefined if it may. The form is an allow-list, a token that begins with
 * a letter or digit. The names taken out of it would change what the request is, whom it is for, or who seems to have sent it.
 *
 * @param name in lower case
 * @see https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
 */
export function findNameFault(name: string): string | undefined {
  if (!NAME.test(name))
    return `expected a name of at most ${MAX_NAME_LENGTH} letters, digits and !#$%&'*+-.^_\`|~ that begins with a letter or digit`;
  // receivers that hand headers on as variables (CGI, WSGI, PHP) can't tell x_real_ip from x-real-ip
  const spelled = name.replace(/[^a-z0-9]/g, '-');
  const reserved = RESERVED.find(({ names }) => names.test(spelled));
  return reserved && `it ${reserved.because}`;
}

/** Says why a webhook may not send a header of this value; undefined if it may. Never quotes the value. */
export function findValueFault(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > MAX_VALUE_LENGTH)
    return `expected a text of 1 to ${MAX_VALUE_LENGTH} characters as its value`;
  if (!VALUE.test(value)) return 'expected printable ASCII as its value, without a space at either end';
  return ORACLE_METADATA.test(value) ? "it opens a cloud's metadata" : undefined;
}

const NAME = /^[a-z0-9][a-z0-9!#$%&'*+.^_`|~-]{0,63}$/;
const VALUE = /^[!-~](?:[ -~]*[!-~])?$/;
/** Oracle's metadata service takes no header of its own, but this value of `authorization`. */
const ORACLE_METADATA = /^bearer +oracle$/i;

const FOR_PROXIES = 'is for proxies to set';

/** By names whose other characters are hyphens. */
const RESERVED: readonly { readonly names: RegExp; readonly because: string }[] = [
  { names: /^(webhook|svix|fanfare)-/, because: 'is part of the signed request' },
  { names: /^(host|alt-used)$/, because: "is the URL's" },
  {
    names: /^(connection|keep-alive|te|trailers?|transfer-encoding|upgrade|http2-settings|proxy-.*)$/,
    because: 'belongs to the connection',
  },
  { names: /^(content-.*|accept-encoding|user-agent|expect|range|date)$/, because: 'is set by the sender' },
  { names: /^(set-)?cookie2?$/, because: 'carries a session' },
  // Google, AWS, Azure, Alibaba, IBM, Huawei; Vault's agent guards itself in the same way
  { names: /(^|-)metadata(-|$)|^x-vault-request$/, because: "opens a cloud's metadata" },
  { names: /^(forwarded|via|x-(forwarded|original|rewrite|envoy|remote)(-.*)?|remote-.*)$/, because: FOR_PROXIES },
  { names: /^((x-|x-cluster-|true-|fastly-)?client-ip|x-real-ip|cf-connecting-ip.*)$/, because: FOR_PROXIES },
  { names: /^x-(http-)?method(-override)?$/, because: 'changes the method' },
  { names: /^(sec|access-control)-/, because: "is a browser's" },
];
