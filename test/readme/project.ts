import { constants } from 'node:fs';
import { cp, mkdtemp, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { inject } from 'vitest';
import { freePort } from '../support/servers.ts';
import { ROOT } from './blocks.ts';
import { openTerminal, type Terminal } from './terminal.ts';

/** The folder that a reader has checked out: a copy, but for the packages, which it shares. */
export interface Project {
  readonly dir: string;
  /** Where its server listens, and the command line finds it. */
  readonly port: number;
  open(env?: Readonly<Record<string, string>>): Terminal;
}

const NOT_CHECKED_OUT = ['.git', '.fanfare', 'node_modules'];

export interface ProjectOptions {
  /** With the embedded database that a first start makes, which needs 2 to 3 s of its own. @default false */
  readonly hasData?: boolean;
}

export async function checkOut({ hasData = false }: ProjectOptions = {}): Promise<Project> {
  const { scratchDir, embeddedTemplateDir } = inject('run');
  const dir = await mkdtemp(join(scratchDir, 'project-'));
  const filter = (path: string) => !NOT_CHECKED_OUT.includes(basename(path));
  await cp(ROOT, dir, { recursive: true, mode: constants.COPYFILE_FICLONE, filter });
  await symlink(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
  if (hasData)
    await cp(embeddedTemplateDir, join(dir, '.fanfare'), { recursive: true, mode: constants.COPYFILE_FICLONE });
  const port = await freePort();
  return { dir, port, open: (env = {}) => openTerminal({ cwd: dir, env: { PORT: String(port), ...env } }) };
}

/** `npm start` in a terminal of its own. Resolves when it has printed its address. */
export async function startServer(project: Project, env: Readonly<Record<string, string>> = {}): Promise<Terminal> {
  const terminal = project.open({ LOG_LEVEL: 'error', ...env });
  terminal.start('npm start');
  await terminal.untilPrints(/GraphQL {4}http/);
  return terminal;
}
