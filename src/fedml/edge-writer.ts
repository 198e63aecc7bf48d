import type { Collector } from "../collector.ts";
import { reopenRun } from "../run/reopen.ts";

/** How the writers begin that stand for the edges of a run. */
export const EDGE_CLIENT = "fedml-edge-";

export const edgeClient = (edge: unknown): string =>
  `${EDGE_CLIENT}${
    String(edge ?? 0)
      .replace(/[^A-Za-z0-9._-]/g, "_")
      .slice(0, 80) || "0"
  }`;

/** Of a run that was taken for dead something came: it goes on, and so do its edges that were, as nothing says whose that is. */
export async function reopenWithEdges(collector: Collector, run: string, client: string): Promise<void> {
  await reopenRun(collector, run, client);
  for (const edge of collector.presence.lost(run))
    if (edge.startsWith(EDGE_CLIENT)) await reopenRun(collector, run, edge);
}
