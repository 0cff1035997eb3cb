import { describeRetention } from '../support/log-retention.ts';

describeRetention('pglite', { isLong: true });
