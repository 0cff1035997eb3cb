import { spawnSync } from 'node:child_process';
import { canInstallWithApt, installWithApt } from '../support/apt.ts';

/**
 * Installs with apt the programs that are missing, if it may.
 * @param names of commands, which are the names of their Debian packages, too
 * @throws Error that says what to install
 */
export async function ensurePrograms(...names: readonly string[]): Promise<void> {
  const missing = names.filter(isMissing);
  if (missing.length === 0) return;
  if (canInstallWithApt()) await installWithApt(missing);
  const stillMissing = missing.filter(isMissing);
  if (stillMissing.length === 0) return;
  throw new Error(
    `the examples are tested with ${names.join(' and ')}, and this machine lacks ${stillMissing.join(' and ')}: install ` +
      `${stillMissing.length > 1 ? 'them' : 'it'} (Debian: apt-get install ${stillMissing.join(' ')}), or run the tests as root on Debian`,
  );
}

function isMissing(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).status !== 0;
}
