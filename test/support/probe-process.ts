import { readConfig } from '../../src/config.ts';
import { describeKeyFault } from '../../src/identity/key-format.ts';
import { compose } from '../../src/main/compose.ts';
import { nearest } from '../../src/runtime/spelling.ts';
import { createProbeDomain } from './probe-domain.ts';
import { toyMigrations } from './toy-domain.ts';

/** A server of the probe domain in a process of its own, which tells its port and ends with its parent's wish or by `fatal`. */
const app = await compose({
  config: readConfig(process.env, { describeKeyFault, nearest }),
  domain: createProbeDomain().domain,
  domainMigrations: toyMigrations,
  observe: () => {},
  onFatal: (error) => {
    throw error;
  },
});
process.send?.({ port: app.port });
process.on('message', () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ usedBytes: heapUsed + external });
});
process.once('disconnect', () => void app.stop().then(() => process.exit(0)));
