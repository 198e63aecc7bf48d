import { and, asc, desc, eq, gte, inArray, lt, lte, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { deviceStream, Encoding } from "../entry.ts";
import { deviceEvent } from "../store/tables.ts";
import type { DeviceEvent, DeviceEventPage, NewDeviceEvent, QueryEvents } from "./schema.ts";

type EventRow = typeof deviceEvent.$inferSelect;

/** Keeps what happened to a device: one entry, a row for each event. The bus hears of them as they are listed. */
export async function recordEvents(
  collector: Collector,
  device: string,
  events: NewDeviceEvent[],
): Promise<void> {
  if (events.length === 0) return;
  const rows = events.map((event) => ({
    ...event,
    id: takeId(collector),
    device,
    detail: event.detail ?? {},
  }));
  await collector.journal.append(
    {
      kind: "event.recorded",
      version: 1,
      run: deviceStream(device),
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: rows.length,
      time: collector.now(),
      encoding: Encoding.json,
      payload: new TextEncoder().encode(JSON.stringify(events)),
    },
    rows.map(toEvent),
    // One by one: the journal keeps a prepared statement for each text.
    rows.map((row) => collector.db.insert(deviceEvent).values(row).toSQL()),
  );
}

const nextIds = new WeakMap<Collector, number>();

/** Before the row is there: the bus is to hear of events with the id under which they are listed. */
export function takeId(collector: Collector): number {
  let id = nextIds.get(collector);
  if (id === undefined) {
    const row = collector.connection
      .prepare("SELECT seq FROM sqlite_sequence WHERE name = 'device_event'")
      .get() as { seq: number } | undefined;
    id = (row?.seq ?? 0) + 1;
  }
  nextIds.set(collector, id + 1);
  return id;
}

/** What happened to a device, or to these subjects of it, in a window; and what was out of the ordinary when it begins. */
export async function listEvents(
  collector: Collector,
  device: string,
  { from, to, subjects, limit }: QueryEvents,
): Promise<DeviceEventPage> {
  const ofDevice = [
    eq(deviceEvent.device, device),
    ...(subjects ? [inArray(deviceEvent.subject, subjects)] : []),
  ];
  const rows = await collector.db
    .select()
    .from(deviceEvent)
    .where(
      and(
        ...ofDevice,
        ...(from === undefined ? [] : [gte(deviceEvent.time, from)]),
        ...(to === undefined ? [] : [lte(deviceEvent.time, to)]),
      ),
    )
    .orderBy(desc(deviceEvent.time), desc(deviceEvent.id))
    .limit(limit + 1);
  return {
    device,
    events: rows.slice(0, limit).reverse().map(toEvent),
    more: rows.length > limit,
    states: from === undefined ? [] : (await statesBefore(collector, ofDevice, from)).map(toEvent),
  };
}

/** Events that say how something is from then on, by what they speak of. All others are over at once. */
const aspect = sql`CASE ${deviceEvent.kind}
  WHEN 'sampling.began' THEN 'sampling' WHEN 'sampling.ended' THEN 'sampling'
  WHEN 'gpu.status' THEN 'status'
  WHEN 'reading.state' THEN 'reading ' || json_extract(${deviceEvent.detail}, '$.reading')
  WHEN 'gpu.lost' THEN 'lost' WHEN 'gpu.back' THEN 'lost'
  WHEN 'throttle.began' THEN 'throttle' WHEN 'throttle.ended' THEN 'throttle'
END`;

/** The newest event of each aspect before a time, where it says that something is not as it should be. */
async function statesBefore(
  { db }: Collector,
  ofDevice: ReturnType<typeof eq>[],
  time: number,
): Promise<EventRow[]> {
  const newest = db
    .select({
      id: deviceEvent.id,
      place:
        sql<number>`row_number() OVER (PARTITION BY ${deviceEvent.subject}, ${aspect} ORDER BY ${deviceEvent.time} DESC, ${deviceEvent.id} DESC)`.as(
          "place",
        ),
    })
    .from(deviceEvent)
    .where(and(...ofDevice, lt(deviceEvent.time, time), sql`${aspect} IS NOT NULL`))
    .as("newest");
  const rows = await db
    .select()
    .from(deviceEvent)
    .where(inArray(deviceEvent.id, db.select({ id: newest.id }).from(newest).where(eq(newest.place, 1))))
    .orderBy(asc(deviceEvent.time), asc(deviceEvent.id));
  return rows.filter(isOutOfOrder);
}

function isOutOfOrder({ kind, subject, detail }: EventRow): boolean {
  if (kind === "gpu.status") return detail["status"] !== "ok";
  if (kind === "reading.state") return detail["state"] !== "ok";
  // A run that has ended is no longer sampled: that is in order.
  if (kind === "sampling.ended") return !subject.startsWith("run/");
  return kind === "gpu.lost" || kind === "throttle.began";
}

export const toEvent = ({ id, device, subject, time, kind, text, detail }: EventRow): DeviceEvent => ({
  id,
  device,
  subject,
  time: new Date(time).toISOString(),
  kind,
  text,
  detail,
});
