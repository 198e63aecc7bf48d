import type {
  Artifact,
  ArtifactFile,
  ArtifactKind,
  ArtifactPage,
  ArtifactVersion,
  FilePage,
  VersionPage,
} from "../../artifact/schema.ts";
import { CollectorError } from "../../error.ts";
import type { Connection } from "./connection.ts";
import { requestJson } from "./http.ts";
import { quoted } from "./walk.ts";

/** As much as a name, and a version's word, may have. */
const MAX_NAME = 250;
const MAX_WORD = 100;

/** What somebody typed, in a sentence: in one line, and told from the sentence's end. */
export function shown(text: string): string {
  const short = text.length > MAX_WORD ? `${text.slice(0, MAX_WORD)}…` : text;
  return /[.!?:]$/.test(short) ? JSON.stringify(short) : quoted(short);
}

type At = Pick<Connection, "url" | "token">;

const path = (id: number, rest = "") => `/api/v1/artifacts/${id}${rest}`;

/** Where a version's own requests go. */
export const versionPath = ({ id, version }: Pick<ArtifactVersion, "id" | "version">, rest = "") =>
  path(id, `/versions/${encodeURIComponent(version)}${rest}`);

/** Models or artifacts, page by page, the last updated first. */
export async function* listArtifacts(
  connection: At,
  query: { kind?: ArtifactKind; name?: string; search?: string | undefined; source?: string | undefined },
  timeout?: number,
): AsyncGenerator<Artifact> {
  let after: number | undefined;
  do {
    const page: ArtifactPage = await requestJson(connection, "/api/v1/artifacts", {
      query: { ...query, limit: 200, after },
      ...(timeout !== undefined && { timeout }),
    });
    yield* page.artifacts;
    after = page.next ?? undefined;
  } while (after !== undefined);
}

/** The one of this name; undefined where there is none. Sources have names of their own: where none is meant, ours comes first. */
export async function findArtifact(
  connection: At,
  kind: ArtifactKind,
  name: string,
  { source, timeout }: { source?: string | undefined; timeout?: number } = {},
): Promise<Artifact | undefined> {
  // Nothing is called so, and the collector would say that it is no name.
  if (name === "" || name.length > MAX_NAME) return undefined;
  const found: Artifact[] = [];
  for await (const artifact of listArtifacts(connection, { kind, name, source }, timeout)) {
    if (artifact.source === null) return artifact;
    found.push(artifact);
  }
  if (found.length > 1)
    throw new CollectorError(
      "conflict",
      `More than one source has ${kind === "model" ? "a model" : "an artifact"} called ${shown(name)}.`,
      {
        hint: `Say which with --source: ${found.map((artifact) => artifact.source).join(", ")}.`,
      },
    );
  return found[0];
}

/** Versions of a name, the newest first. */
export async function* listVersions(connection: At, id: number): AsyncGenerator<ArtifactVersion> {
  let after: string | undefined;
  do {
    const page: VersionPage = await requestJson(connection, path(id, "/versions"), {
      query: { limit: 200, after },
    });
    yield* page.versions;
    after = page.next ?? undefined;
  } while (after !== undefined);
}

/** The version behind v3, an alias, or latest. */
export async function findVersion(
  connection: At,
  { id, kind, name }: Pick<Artifact, "id" | "kind" | "name">,
  word: string,
): Promise<ArtifactVersion> {
  const none = (cause?: unknown) =>
    new CollectorError("not-found", `The ${kind} ${shown(name)} has no version ${shown(word)}.`, {
      hint: "Versions are v1, v2, …, an alias, or latest.",
      cause,
    });
  if (word.length > MAX_WORD) throw none();
  try {
    // An alias may hold letters that no path of the collector's may.
    if (/^(v\d{1,9}|latest)$/.test(word))
      return await requestJson(connection, versionPath({ id, version: word }));
    const page: VersionPage = await requestJson(connection, path(id, "/versions"), {
      query: { alias: word },
    });
    return page.versions[0]!;
  } catch (error) {
    if (!(error instanceof CollectorError) || error.code !== "not-found") throw error;
    throw none(error);
  }
}

/** Its files, by path. */
export async function* listFiles(
  connection: At,
  version: Pick<ArtifactVersion, "id" | "version">,
  signal?: AbortSignal,
): AsyncGenerator<ArtifactFile> {
  let after: string | undefined;
  do {
    const page: FilePage = await requestJson(connection, versionPath(version, "/files"), {
      query: { limit: 10_000, after },
      signal,
    });
    yield* page.files;
    after = page.next ?? undefined;
  } while (after !== undefined);
}
