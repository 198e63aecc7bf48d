import type { Collector } from "../collector.ts";
import { listEvents } from "../sample/event.ts";
import { querySamples } from "../sample/query.ts";
import type { NewDeviceEvent } from "../sample/schema.ts";
import { MACHINE } from "../sample/subject.ts";
import { ended } from "./sampler-events.ts";

/** A collector that was killed could not say so: what is missing since its last sample has a reason all the same. */
export async function explainGap(collector: Collector, device: string): Promise<NewDeviceEvent[]> {
  const { events: told } = await listEvents(collector, device, { subjects: [MACHINE], limit: 200 });
  const last = told.findLast(({ kind }) => kind === "sampling.began" || kind === "sampling.ended");
  if (last?.kind !== "sampling.began") return [];
  const time = await lastSampleTime(collector, device, Date.parse(last.time));
  return [ended(time, "The collector was killed, or its machine went down.")];
}

async function lastSampleTime(collector: Collector, device: string, from: number): Promise<number> {
  const to = collector.now();
  let window = { from, to };
  // Coarse, and then in what was found last.
  for (const points of [500, 2000]) {
    const page = await querySamples(collector, device, { ...window, points, subjects: [MACHINE] });
    const at = page.times.findLastIndex((_, index) =>
      page.series.some(({ mean }) => mean[index] !== null && mean[index] !== undefined),
    );
    if (at < 0) return window.from;
    window = { from: page.times[at]!, to: Math.min(to, page.times[at]! + page.step) };
  }
  return Math.max(from, window.from);
}
