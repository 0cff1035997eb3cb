import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const POLICY = '/usr/sbin/policy-rc.d';

/**
 * True for root on a Debian whose packages can be kept from starting services. A policy that somebody installed
 * is left alone: if it lets services start, we install nothing.
 */
export function canInstallWithApt(): boolean {
  const isRootOnDebian = process.getuid?.() === 0 && existsSync('/etc/debian_version');
  return isRootOnDebian && (!existsSync(POLICY) || policyForbidsStarting());
}

/** Installs packages without starting their services and without making a database cluster; rejects with apt's output. */
export async function installWithApt(packages: readonly string[]): Promise<void> {
  console.log(`installing ${packages.join(' and ')} with apt for the tests, once`);
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-apt-'));
  try {
    const log = await open(join(dir, 'log'), 'w');
    // In a session of its own and writing to a file: once begun it runs to its end, and takes its policy away again,
    // whatever happens to this process.
    const script = spawn('/bin/sh', ['-c', INSTALL, 'install', ...packages], {
      detached: true,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      stdio: ['ignore', log.fd, log.fd],
    });
    const [code] = await once(script, 'exit');
    await log.close();
    if (code !== 0)
      throw new Error(`apt could not install:\n${(await readFile(join(dir, 'log'), 'utf8')).slice(-4_000)}`);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function policyForbidsStarting(): boolean {
  try {
    execFileSync(POLICY, ['redis-server', 'start'], { stdio: 'ignore' });
    return false;
  } catch (error) {
    return error instanceof Error && 'status' in error && error.status === 101;
  }
}

// The lock is for two runs of the tests that begin together: the second must not lose the first one's policy.
// The first attempt to install fails where package lists were never fetched, or are older than the mirror.
const INSTALL = `
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=${POLICY}
clusters=/etc/postgresql-common/createcluster.d
exec 9</var/lib/dpkg
flock 9
made=
trap 'exit 1' HUP INT TERM
trap 'rm -f $made; rmdir "$clusters" 2>/dev/null' EXIT
if [ ! -e "$policy" ]; then
  made="$policy"
  printf '#!/bin/sh\\nexit 101\\n' > "$policy"
  chmod 755 "$policy"
fi
made="$made $clusters/fanfare-test.conf"
mkdir -p "$clusters"
echo 'create_main_cluster = false' > "$clusters/fanfare-test.conf"
install() { apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"; }
install "$@" || { apt-get -o DPkg::Lock::Timeout=300 update && install "$@"; }
`;
