import { isDeepStrictEqual } from "node:util";
import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { deviceStream, Encoding } from "../entry.ts";
import { inTurn } from "../run/change.ts";
import { device as deviceTable } from "../store/tables.ts";
import type { DeviceFacts } from "./schema.ts";

/** Takes up what a machine says of itself. What it said before is no news and writes nothing. */
export function registerDevice(collector: Collector, id: string, facts: DeviceFacts): Promise<void> {
  const stream = deviceStream(id);
  return inTurn(collector, stream, async () => {
    const [row] = await collector.db.select().from(deviceTable).where(eq(deviceTable.id, id));
    // Through JSON, as the row went: a member that is undefined is one that is not there.
    const known = JSON.parse(JSON.stringify(facts)) as DeviceFacts;
    if (row && isDeepStrictEqual(row.facts, known)) return;
    const time = collector.now();
    const write = collector.db
      .insert(deviceTable)
      .values({ id, name: known.name, facts: known, firstSeen: time, lastSeen: time })
      .onConflictDoUpdate({
        target: deviceTable.id,
        set: { name: known.name, facts: known, lastSeen: time },
      })
      .toSQL();
    await collector.journal.append(
      {
        kind: "device.changed",
        version: 1,
        run: stream,
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count: 1,
        time,
        encoding: Encoding.json,
        payload: new TextEncoder().encode(JSON.stringify(known)),
      },
      known,
      [write],
    );
  });
}
