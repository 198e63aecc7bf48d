import type { Connection } from "../store/open.ts";
import type { Holder } from "../store/prune.ts";

const ROWS = 1000;

/** Forgets a run's spans in small transactions. */
export function createSpanHolder(connection: Connection): Holder {
  const remove = connection.prepare(
    `DELETE FROM span WHERE run = ?1 AND id IN (SELECT id FROM span WHERE run = ?1 LIMIT ${ROWS})`,
  );
  return {
    async purge(run) {
      while (remove.run(run).changes === ROWS) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}
