import { eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { deviceOfStream } from "../entry.ts";
import { isKnownDevice } from "../store/unfinished.ts";
import { device as deviceTable, runDevice } from "../store/tables.ts";
import { boundsOf, takeBounds, type HistoryBounds } from "./bounds.ts";
import type { Part } from "./contract.ts";
import { factsHistory, runIds } from "./facts.ts";
import { logsHistory } from "./history-logs.ts";
import { metricsHistory } from "./history-metrics.ts";
import { samplesHistory } from "./history-samples.ts";
import type { HistoryPiece } from "./piece.ts";

/** Only one rank has a record, so that it is one frame. */
const ONE_RECORD = { values: 1, characters: 1, cells: 1 };

export type { HistoryBounds } from "./bounds.ts";
export type { HistoryPiece } from "./piece.ts";

/**
 * What history consists of, as it stands in one tick: facts first, then what grows. No runs named: everything that is kept. In the
 * place of a run the stream of a device may stand. Nothing, where nothing is kept of those that are named.
 */
export async function historyParts(
  collector: Collector,
  runs?: readonly string[],
  since?: number,
): Promise<{ parts: Part[]; bounds: HistoryBounds }> {
  const bounds = await takeBounds(collector, runs, since);
  if (runs && !runs.some((stream) => isKept(collector, bounds, stream))) return { parts: [], bounds };
  const parts: Part[] = [{ of: "facts" }];
  for await (const run of runIds(collector, bounds)) {
    const numbers = boundsOf(collector, bounds, run);
    if (!numbers) continue;
    if (numbers.nextOrdinal > 0) parts.push({ of: "metrics", run });
    if (numbers.nextLine > 1) parts.push({ of: "logs", run });
  }
  parts.push(...(await sampleParts(collector, bounds)));
  return { parts, bounds };
}

function isKept(collector: Collector, bounds: HistoryBounds, stream: string): boolean {
  const device = deviceOfStream(stream);
  return device === undefined
    ? boundsOf(collector, bounds, stream) !== undefined
    : isKnownDevice(collector.connection, device);
}

async function sampleParts({ db }: Collector, { runs }: HistoryBounds): Promise<Part[]> {
  if (runs) {
    const parts: Part[] = [];
    for (const run of runs) {
      const rows = await db
        .select({ device: runDevice.device })
        .from(runDevice)
        .where(eq(runDevice.run, run));
      for (const { device } of rows) parts.push({ of: "samples", device, run });
    }
    return parts;
  }
  const known = await db.select({ device: deviceTable.id }).from(deviceTable);
  // A machine may never have said what it is.
  const used = await db.selectDistinct({ device: runDevice.device }).from(runDevice);
  const devices = new Set([...known, ...used].map(({ device }) => device));
  return [...devices].map((device) => ({ of: "samples", device }));
}

/**
 * A part from a position on, piece by piece; `single`: of one frame each, as small as can be. A run that is deleted or pruned meanwhile just ends: what the journal says of it comes
 * after.
 */
export async function* historyOf(
  collector: Collector,
  part: Part,
  from: number,
  bounds: HistoryBounds,
  { single = false }: { single?: boolean } = {},
): AsyncGenerator<HistoryPiece, void> {
  if (part.of === "facts") return yield* factsHistory(collector, bounds, single);
  if (part.of === "samples")
    return yield* samplesHistory(collector, part.device, { from, run: part.run, bounds, single });
  const { run } = part;
  const numbers = boundsOf(collector, bounds, run);
  if (!numbers) return;
  const pieces =
    part.of === "metrics"
      ? metricsHistory(collector, run, {
          from,
          before: numbers.nextOrdinal,
          size: single ? ONE_RECORD : undefined,
        })
      : logsHistory(collector, run, { from, before: numbers.nextLine, single });
  try {
    for await (const piece of pieces) {
      if (!isKept(collector, bounds, run)) return;
      yield piece;
    }
  } catch (error) {
    if (isKept(collector, bounds, run)) throw error;
  }
}
