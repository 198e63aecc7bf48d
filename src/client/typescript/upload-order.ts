import { lstatSync, readFileSync, renameSync, rmSync, type BigIntStats } from "node:fs";
import { z } from "zod";
import { ArtifactFile, LogArtifact, type LoggedArtifact } from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import { RunId } from "../../run/schema.ts";
import type { Connection } from "./connection.ts";
import { requestJson } from "./http.ts";
import { createRetry } from "./retry.ts";
import { isPermanent, listSpool, type ReplayResult } from "./spool.ts";
import { lockSpool, unlockSpool } from "./spool-lock.ts";
import { uploadFiles, type UploadProgress } from "./upload.ts";
import { fileError, quoted, requireFile } from "./walk.ts";

/** An upload that a client noted on disk, to be done by whoever comes next: `<run>-<client>-<n>.upload` of the spool folder. */
const SUFFIX = ".upload";

export const listOrders = (dir: string): string[] => listSpool(dir, SUFFIX);
export const isOrder = (file: string) => file.endsWith(SUFFIX);

/** The first line. */
const Head = z.object({
  v: z.literal(1),
  path: z.string().startsWith("/api/v1/runs/"),
  /** What is logged, without its files. */
  body: LogArtifact.omit({ files: true }),
  /** How the run is created, where the collector does not know it. */
  create: z.looseObject({ id: RunId }),
});

/** Each further line: a file, and what it was when it was logged (mtime in ns). */
const Line = z.object({
  path: z.string(),
  source: z.string(),
  size: ArtifactFile.shape.size,
  mtime: z.string(),
  sha256: ArtifactFile.shape.sha256.optional(),
});
type Line = z.infer<typeof Line>;

export interface OrderResult extends ReplayResult {
  /** null where it was not logged. */
  upload: { kind: string; name: string; version: string; bytes: number } | null;
}

export interface OrderOptions {
  connection: () => Pick<Connection, "url" | "token">;
  /** Given up when nothing has come through for so long. */
  patienceMs: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: UploadProgress) => void) | undefined;
  onWaiting?: ((error: CollectorError | undefined) => void) | undefined;
}

/** Does an upload and deletes its order. Only files that are still what they were are sent: others would be another model. */
export async function sendOrder(file: string, options: OrderOptions): Promise<OrderResult> {
  const result = (outcome: OrderResult["outcome"], error: string | null = null): OrderResult => ({
    file,
    outcome,
    sent: 0,
    refused: outcome === "partly" ? 1 : 0,
    error,
    upload: null,
  });
  if (!lockSpool(file)) return result("busy");
  try {
    const { head, lines } = readOrder(file);
    for (const line of lines) requireUnchanged(line);
    const { logged, sent } = await perform(head, lines, options);
    rmSync(file, { force: true });
    const { kind, name, version } = logged;
    return { ...result("sent"), sent: 1, upload: { kind, name, version, bytes: sent } };
  } catch (problem) {
    const message = problem instanceof Error ? problem.message : String(problem);
    if (!isPermanent(problem)) return result("kept", message);
    renameSync(file, `${file}.refused`);
    return result("partly", message);
  } finally {
    unlockSpool(file);
  }
}

function readOrder(file: string): { head: z.infer<typeof Head>; lines: Line[] } {
  try {
    const [first = "", ...rest] = readFileSync(file, "utf8").trimEnd().split("\n");
    return { head: Head.parse(JSON.parse(first)), lines: rest.map((line) => Line.parse(JSON.parse(line))) };
  } catch (cause) {
    throw new CollectorError("invalid", `${file} is damaged.`, { cause });
  }
}

/** Before anything is read: most of what has changed shows by its size or its time. */
function requireUnchanged({ source, size, mtime, sha256 }: Line): void {
  let stats: BigIntStats;
  try {
    stats = lstatSync(source, { bigint: true });
  } catch (error) {
    throw fileError(source, error);
  }
  requireFile(source, stats as never);
  const isSame = stats.size === BigInt(size) && String(stats.mtimeNs) === mtime;
  // With a digest it counts what is in it.
  if (sha256 === undefined ? !isSame : stats.size !== BigInt(size)) throw hasChanged(source);
}

const hasChanged = (source: string) =>
  new CollectorError("invalid", `${quoted(source)} has changed since it was logged.`, {
    hint: "Log what is in it now by `binnacle model put` or `binnacle artifact put`.",
  });

async function perform(
  { path, body, create }: z.infer<typeof Head>,
  lines: Line[],
  { connection, patienceMs, signal, onProgress, onWaiting }: OrderOptions,
): Promise<{ logged: LoggedArtifact; sent: number }> {
  const retry = createRetry({ patienceMs, signal, onWaiting });
  const post = <T>(path: string, body: unknown) =>
    retry(() => requestJson<T>(connection(), path, { body, signal, timeout: 120_000 }));
  const meant = new Map(lines.map((line) => [line.path, line]));
  let sent = 0;
  for (let isAgain = false; ; isAgain = true) {
    const uploaded = await uploadFiles(lines, { connection, retry, signal, onProgress });
    sent += uploaded.sent;
    for (const { path, sha256 } of uploaded.files) {
      const line = meant.get(path)!;
      if (line.sha256 !== undefined && line.sha256 !== sha256) throw hasChanged(line.source);
    }
    const log = () => post<LoggedArtifact>(path, { ...body, files: uploaded.files });
    try {
      const logged = await log().catch(async (error: unknown) => {
        if (!(error instanceof CollectorError) || error.code !== "not-found") throw error;
        // What its client had to say of the run may have been lost.
        await post("/api/v1/runs", create);
        return log();
      });
      return { logged, sent };
    } catch (error) {
      const isMissingBytes = error instanceof CollectorError && error.code === "conflict";
      if (isAgain || !isMissingBytes) throw error;
    }
  }
}
