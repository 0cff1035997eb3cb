import { describeRebinding } from './rebinding.ts';

describeRebinding({ deliveries: 300, seed: 1 });
