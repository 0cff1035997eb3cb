import { createBuilder } from '#engine';
import { customerEvents } from './customer/events.ts';
import { orderEvents } from './order/events.ts';
import { productEvents } from './product/events.ts';
import type { Tables } from './tables.ts';

export const builder = createBuilder<Tables>().events([...productEvents, ...customerEvents, ...orderEvents]);
