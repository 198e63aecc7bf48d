import { LogArtifact, type LoggedArtifact } from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import { sayIssue } from "../../issue.ts";
import type { Connection } from "./connection.ts";
import { requestJson } from "./http.ts";
import { createRetry } from "./retry.ts";
import { uploadFiles, type UploadProgress } from "./upload.ts";
import { findFiles, quoted, type FoundFile } from "./walk.ts";

/** What is said about the files. */
export type ArtifactHead = Pick<LogArtifact, "kind" | "name" | "type"> &
  Partial<Pick<LogArtifact, "description" | "metadata" | "aliases" | "origin">>;

export interface PutOptions {
  /** Asked before every request. */
  connection: () => Pick<Connection, "url" | "token">;
  /** The run that made them; without it none did. */
  run?: string | undefined;
  /** Given up when nothing has come through for so long (default one minute). */
  patienceMs?: number;
  /** A full disk is waited for without end: somebody looks on, and may make room. */
  waitsForRoom?: boolean;
  /** A script that has ended does not wait for a collector that is gone. */
  isBackground?: boolean;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: UploadProgress) => void) | undefined;
  /** The collector takes nothing for the moment (with why), or does again. */
  onWaiting?: ((error: CollectorError | undefined) => void) | undefined;
}

export interface Put {
  logged: LoggedArtifact;
  /** Bytes of files that had to be sent. */
  sent: number;
}

const PATIENCE_MS = 60_000;
/** A list of a hundred thousand files takes a while to be written. */
const LOG_TIMEOUT_MS = 120_000;

/** Uploads what these paths mean and logs it as one version. */
export async function putPaths(
  head: ArtifactHead,
  paths: readonly string[],
  options: PutOptions,
): Promise<Put> {
  const checked = checkHead(head);
  return putFiles(checked, await findFiles(paths), options);
}

/** Uploads files and logs them as one version. */
export async function putFiles(
  head: ArtifactHead,
  found: readonly FoundFile[],
  {
    connection,
    run,
    patienceMs = PATIENCE_MS,
    waitsForRoom,
    isBackground,
    signal,
    onProgress,
    onWaiting,
  }: PutOptions,
): Promise<Put> {
  const checked = checkHead(head);
  requireShortList(found);
  const retry = createRetry({ patienceMs, signal, waitsForRoom, isBackground, onWaiting });
  const path = run === undefined ? "/api/v1/artifacts" : `/api/v1/runs/${encodeURIComponent(run)}/artifacts`;
  let sent = 0;
  for (let isAgain = false; ; isAgain = true) {
    const uploaded = await uploadFiles(found, { connection, retry, signal, onProgress });
    sent += uploaded.sent;
    try {
      const body = { ...checked, files: uploaded.files };
      const logged = await retry(() =>
        requestJson<LoggedArtifact>(connection(), path, { body, signal, timeout: LOG_TIMEOUT_MS }),
      );
      return { logged, sent };
    } catch (error) {
      // What nothing refers to is kept for a day, and an upload may have taken longer.
      if (isAgain || !isMissingBytes(error)) throw error;
    }
  }
}

/** Of the 32 MiB of a request some are for what is said about the files. */
const MAX_LIST_BYTES = 31 * 1024 * 1024;
/** Of a file in the list, besides its path. */
const LISTED_BYTES = 110;

/** Before anything is read: what the collector would refuse when all of it was sent. */
function requireShortList(found: readonly FoundFile[]): void {
  const bytes = found.reduce(
    (sum, { path }) => sum + LISTED_BYTES + Buffer.byteLength(JSON.stringify(path)),
    0,
  );
  if (bytes > MAX_LIST_BYTES)
    throw new CollectorError(
      "too-large",
      `The list of these ${found.length} files is too long: their paths are.`,
      {
        hint: "Put them into an archive (tar, zip) first, or give their folders shorter names.",
      },
    );
}

const isMissingBytes = (error: unknown) =>
  error instanceof CollectorError && error.code === "conflict" && Array.isArray(error.details?.["missing"]);

const Head = LogArtifact.omit({ files: true });

/** Before gigabytes are read and sent: what the collector would refuse at last. */
export function checkHead(head: ArtifactHead): Omit<LogArtifact, "files"> {
  const parsed = Head.safeParse(head);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const [field, place] = issue.path;
  const what =
    field === "aliases" && place !== undefined
      ? `alias ${quoted(String(head.aliases?.[Number(place)] ?? ""))}`
      : [field, ...(place === undefined ? [] : [quoted(String(place))])].map(String).join(" ");
  throw new CollectorError(
    "invalid",
    `The ${what.length > 200 ? `${what.slice(0, 200)}…` : what} ${sayIssue(issue)}.`,
  );
}
