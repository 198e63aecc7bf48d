import { and, eq, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { writer as writerTable } from "../store/tables.ts";
import { changeRun, inTurn } from "./change.ts";
import { getOwnRow } from "./find.ts";

/** More of a run than this share the last rank: who takes a new name each time must not fill the table. */
const MAX_RANKS = 1000;

export interface RankedWriter {
  client: string;
  /** Ranks are counted among the writers whose client begins so. */
  prefix: string;
  device: string;
}

/**
 * The rank of a writer that brings none, so that its lines can be told from those of others: the next free one. Nobody waits for
 * such a writer, and it takes up no run that has ended.
 */
export function rankOfWriter(
  collector: Collector,
  run: string,
  { client, prefix, device }: RankedWriter,
): Promise<number> {
  return inTurn(collector, run, async () => {
    const row = await getOwnRow(collector, run);
    const known = await collector.db
      .select({ client: writerTable.client, rank: writerTable.rank })
      .from(writerTable)
      .where(
        and(eq(writerTable.run, run), sql`substr(${writerTable.client}, 1, ${prefix.length}) = ${prefix}`),
      );
    const own = known.find((writer) => writer.client === client);
    if (own) return own.rank;
    const rank = known.length;
    if (rank >= MAX_RANKS) return MAX_RANKS - 1;
    const writer = { client, role: "client" as const, rank, device, pid: null, boot: null, start: null };
    await changeRun(collector, row, {}, [
      { what: "joined", writer: { ...writer, outcome: "FINISHED", nextStep: 0 } },
    ]);
    return rank;
  });
}
