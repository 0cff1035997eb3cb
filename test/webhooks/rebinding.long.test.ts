import { describeRebinding } from './rebinding.ts';

describeRebinding({ deliveries: 10_000, seed: 2 });
