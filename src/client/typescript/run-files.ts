import { lstatSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ArtifactKind, ArtifactVersion, LoggedArtifact } from "../../artifact/schema.ts";
import type { CreateRun } from "../../run/schema.ts";
import type { Connection } from "./connection.ts";
import { downloadVersion } from "./download.ts";
import { isChanged } from "./file-digest.ts";
import { requestJson } from "./http.ts";
import { checkHead, putFiles, type ArtifactHead } from "./put.ts";
import { sleep } from "./retry.ts";
import { isPermanent } from "./spool.ts";
import { lockSpool, unlockSpool } from "./spool-lock.ts";
import { findFiles, findFilesNow, lookAt, quoted, requireFile, type FoundFile } from "./walk.ts";

export interface ModelOptions {
  /** Such as "best"; an alias moves here from the version that had it. */
  aliases?: string[];
  metadata?: Record<string, unknown>;
  description?: string;
}

export interface ArtifactOptions extends ModelOptions {
  /** general (the default), model, dataset, source code, log, or any other word. */
  type?: string;
}

export interface UseOptions {
  /** Such as "v3", or an alias (default "latest"). */
  version?: string;
  kind?: ArtifactKind;
  /** The folder to write to (default ./artifacts/NAME-VERSION). */
  to?: string;
}

export interface RunFilesOptions {
  connection: () => Pick<Connection, "url" | "token">;
  spoolDir: string;
  create: CreateRun & { id: string; writer: { client: string } };
  /** Resolves once the collector knows the run. */
  created: Promise<unknown>;
  tell: (text: string) => void;
}

interface Upload {
  head: ArtifactHead;
  sources: string[];
  /** Where it is noted on disk. */
  order: string | undefined;
}

/** A file that was just being written gets so many more tries, so far apart. */
const CHANGED_TRIES = 3;
const CHANGED_WAIT_MS = 1_000;
/** Without progress for so long at the end, the collector counts as hung. */
const STALLED_MS = 10_000;
/** It reads the whole at the end, and waits for its disk, without a word. */
const CHECKED_BYTES_A_MS = 50_000;
const LOOK_MS = 50;

/** A run's models and artifacts: sent in the background, one after another, so that versions count in the order of the calls. */
export class RunFiles {
  readonly #options: RunFilesOptions;
  readonly #stop = new AbortController();
  /** One for all uploads: each listener of its own would stay for as long as the run. */
  readonly #stopped = aborted(this.#stop.signal);
  readonly #unfinished = new Set<Upload>();
  #last: Promise<unknown> = Promise.resolve();
  #count = 0;
  #movedAt = 0;
  #patienceMs = STALLED_MS;
  #waitingSince: number | undefined;

  constructor(options: RunFilesOptions) {
    this.#options = options;
    options.created.catch(() => {});
    this.#stopped.catch(() => {});
  }

  logModel(name: string, path: string, options: ModelOptions = {}): Promise<LoggedArtifact> {
    return this.#put(headOf("model", name, "model", options), [path]);
  }

  logArtifact(
    name: string,
    paths: string | string[],
    options: ArtifactOptions = {},
  ): Promise<LoggedArtifact> {
    return this.#put(
      headOf("artifact", name, options.type ?? "general", options),
      typeof paths === "string" ? [paths] : paths,
    );
  }

  /** Fetches a version and notes that the run uses it; resolves with the folder. */
  async use(name: string, { version = "latest", kind = "artifact", to }: UseOptions = {}): Promise<string> {
    const { connection, create, created } = this.#options;
    await created;
    const found = await requestJson<ArtifactVersion>(connection(), `/api/v1/runs/${create.id}/inputs`, {
      body: { kind, name, version },
    });
    checkHead({ kind, name: found.name, type: found.type });
    const folder = resolve(to ?? join("artifacts", `${found.name}-v${Number(found.version.slice(1))}`));
    await downloadVersion(found, folder, { connection });
    return folder;
  }

  #put(head: ArtifactHead, paths: readonly string[]): Promise<LoggedArtifact> {
    // Wrong arguments are an error on the line that has them.
    checkHead(head);
    const sources = paths.map((path) => resolve(path));
    for (const source of sources) {
      const stats = lookAt(source);
      if (!stats.isDirectory()) requireFile(source, stats);
    }
    const upload: Upload = { head, sources, order: undefined };
    this.#unfinished.add(upload);
    // Looked through at once: what belongs to a version is what is there when it is logged.
    const found = findFiles(sources).then((files) => {
      if (!this.#stop.signal.aborted) this.#note(upload, files);
      return files;
    });
    found.catch(() => {});
    const before = this.#last;
    const done = (async () => {
      await before;
      return this.#send(upload, await found);
    })();
    this.#last = done.then(
      () => this.#finished(upload),
      (error: Error) => {
        if (this.#stop.signal.aborted) return;
        // With another token it may be taken; what the next try would meet the same answer for is not tried again.
        const isLeft = upload.order !== undefined && !isPermanent(error) && !isChanged(error);
        if (isLeft) unlockSpool(upload.order!);
        else this.#finished(upload);
        this.#unfinished.delete(upload);
        const next = isLeft ? " `binnacle sync` tries again." : "";
        this.#options.tell(`${labelOf(upload)} is not kept: ${error.message}${next}`);
      },
    );
    // Told above: who does not ask shall not be ended by it.
    done.catch(() => {});
    return done;
  }

  #finished(upload: Upload): void {
    this.#unfinished.delete(upload);
    if (upload.order === undefined) return;
    rmSync(upload.order, { force: true });
    unlockSpool(upload.order);
  }

  async #send({ head, sources }: Upload, found: FoundFile[]): Promise<LoggedArtifact> {
    const { connection, create, created } = this.#options;
    const { signal } = this.#stop;
    await Promise.race([created, this.#stopped]);
    for (let attempt = 1; ; attempt++)
      try {
        const { logged } = await putFiles(head, attempt === 1 ? found : await findFiles(sources), {
          connection,
          run: create.id,
          patienceMs: Infinity,
          isBackground: true,
          signal,
          onProgress: ({ bytes }) => {
            this.#movedAt = performance.now();
            this.#patienceMs = STALLED_MS + bytes / CHECKED_BYTES_A_MS;
          },
          onWaiting: (error) => (this.#waitingSince = error && (this.#waitingSince ?? performance.now())),
        });
        return logged;
      } catch (error) {
        if (!isChanged(error) || attempt > CHANGED_TRIES) throw error;
        await sleep(CHANGED_WAIT_MS, signal);
      }
  }

  /** Notes on disk what is to be sent, so that `binnacle sync` can do it, should this process not get that far. */
  #note(upload: Upload, found: readonly FoundFile[]): void {
    const { spoolDir, create } = this.#options;
    const path = join(spoolDir, `${create.id}-${create.writer.client}-ts${++this.#count}.upload`);
    const first = { v: 1, path: `/api/v1/runs/${create.id}/artifacts`, body: upload.head, create };
    try {
      const lines = found.map(({ path, source, size }) => {
        const mtime = lstatSync(source, { bigint: true }).mtimeNs;
        // Nanoseconds as text: as a number they are beyond what JavaScript can hold.
        return { path, source, size, mtime: String(mtime) };
      });
      mkdirSync(spoolDir, { recursive: true, mode: 0o700 });
      lockSpool(path);
      const text = [first, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("");
      writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
      renameSync(`${path}.tmp`, path);
      upload.order = path;
    } catch (error) {
      this.#options.tell(`${labelOf(upload)} can't be noted on disk: ${(error as Error).message}`);
      rmSync(`${path}.tmp`, { force: true });
      unlockSpool(path);
    }
  }

  /** Waits until all is sent, or until waiting is in vain; what is left then is given up here. */
  async settle({ withinMs, offlineMs }: { withinMs: number; offlineMs: number }): Promise<void> {
    if (this.#unfinished.size === 0) return this.abandon();
    const until = performance.now() + withinMs;
    const begun = performance.now();
    let isKnown = false;
    this.#options.created.then(
      () => (isKnown = true),
      () => (isKnown = true),
    );
    this.#movedAt = begun;
    for (let now = begun; this.#unfinished.size > 0 && now < until; now = performance.now()) {
      const waitedFrom = isKnown ? this.#waitingSince : begun;
      if (waitedFrom !== undefined && now - Math.max(waitedFrom, begun) > offlineMs) break;
      if (now - this.#movedAt > this.#patienceMs) break;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    this.abandon();
  }

  /** Ends what is under way. Synchronous, for exit hooks. */
  abandon(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(new Error("The run has ended."));
    const left = [...this.#unfinished];
    for (const upload of left) {
      if (upload.order === undefined) this.#noteNow(upload);
      // From now on it is whose who takes it.
      if (upload.order !== undefined) unlockSpool(upload.order);
    }
    const labels = (isNoted: boolean) =>
      left
        .filter(({ order }) => (order !== undefined) === isNoted)
        .map(labelOf)
        .join(", ");
    if (labels(true))
      this.#options.tell(`not with the collector yet: ${labels(true)}. \`binnacle sync\` sends the rest.`);
    if (labels(false)) this.#options.tell(`not with the collector: ${labels(false)}. Log it again.`);
  }

  #noteNow(upload: Upload): void {
    try {
      this.#note(upload, findFilesNow(upload.sources));
    } catch (error) {
      this.#options.tell(`${labelOf(upload)}: ${(error as Error).message}`);
    }
  }
}

const labelOf = ({ head }: Upload) => `${head.kind} ${quoted(head.name)}`;

function headOf(
  kind: ArtifactKind,
  name: string,
  type: string,
  { aliases, metadata, description }: ModelOptions,
): ArtifactHead {
  return {
    kind,
    name,
    type,
    ...(aliases && { aliases }),
    // The collector's schema says what it may hold, and checkHead asks it.
    ...(metadata && { metadata: metadata as NonNullable<ArtifactHead["metadata"]> }),
    ...(description !== undefined && { description }),
  };
}

const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    const stop = () => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
