import type { Collector } from "../collector.ts";
import { rankOfWriter } from "../run/ranked-writer.ts";

/** Edges whose rank is remembered. */
const MAX_REMEMBERED = 10_000;
/** How the writers begin that stand for edges whose logs come. */
export const LOG_CLIENT = "fedml-log-";

/** The writer that stands for an edge. Its id is a person's text: a client's takes less. */
export const logClientOf = (edge: string): string =>
  `${LOG_CLIENT}${edge.replace(/[^A-Za-z0-9._:-]/g, "_").slice(0, 100)}`;

/** The devices of a run whose logs come, FedML's edges: each has a rank, so that their lines can be told apart. */
export interface FedmlEdges {
  rankOf(run: string, edge: string): Promise<number>;
}

export function createEdges(collector: Collector): FedmlEdges {
  const rankByEdge = new Map<string, number>();
  return {
    async rankOf(run, edge) {
      const key = `${run}\n${edge}`;
      let rank = rankByEdge.get(key);
      if (rank === undefined) {
        const client = logClientOf(edge);
        const device = `edge ${edge.replace(/\p{Cc}/gu, " ").slice(0, 100)}`;
        rank = await rankOfWriter(collector, run, { client, prefix: LOG_CLIENT, device });
        if (rankByEdge.size >= MAX_REMEMBERED) rankByEdge.clear();
        rankByEdge.set(key, rank);
      }
      return rank;
    },
  };
}
