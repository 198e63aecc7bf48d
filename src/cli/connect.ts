import { findConnection, type Connection } from "../client/typescript/connection.ts";
import { requestJson } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import { RunId, type RunDetail } from "../run/schema.ts";
import { UsageError } from "./error.ts";

/** The collector that --url, --data and the environment mean. */
export function connect(values: { url?: string | undefined; data?: string | undefined }): Connection {
  return findConnection({ url: values.url, data: values.data });
}

/** How long the first question of a command waits. One that has been answered may ask for more, which takes longer. */
export const ANSWER_WITHIN_MS = 10_000;

/** The run of a program that `launch` runs, for commands that only look. */
export const currentRun = () => process.env["BINNACLE_RUN_ID"] || undefined;

/** The run that -rid means: its id, or the beginning of it. */
export async function findRun(
  connection: Connection,
  id: string | undefined,
  command: string,
): Promise<RunDetail> {
  if (!id) throw new UsageError("Say which run with -rid ID.", command);
  if (!RunId.safeParse(id).success)
    throw new CollectorError("not-found", `'${id}' is no run id.`, {
      hint: "See `binnacle run list` for the runs there are.",
    });
  try {
    return await requestJson<RunDetail>(connection, runPath(id), { timeout: ANSWER_WITHIN_MS });
  } catch (error) {
    const candidates = error instanceof CollectorError && error.details?.["candidates"];
    if (!Array.isArray(candidates)) throw error;
    const named = (candidates as { id: string; name: string }[]).map(({ id, name }) => `${id} (${name})`);
    throw new UsageError(`${(error as Error).message} Which of these? ${named.join(", ")}.`, command);
  }
}

export const runPath = (id: string, rest = "") => `/api/v1/runs/${encodeURIComponent(id)}${rest}`;
