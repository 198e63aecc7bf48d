import { z } from "zod";
import { Json } from "../run/schema.ts";
import { MAX_FILE_BYTES, Sha256 } from "../blob/schema.ts";

/** `log_model` makes models, `log_artifact` artifacts (of the type model, too): two lists, as people know them. */
export const ArtifactKind = z.enum(["model", "artifact"]);
export type ArtifactKind = z.infer<typeof ArtifactKind>;

/** FedML's own words; others are taken as they are. */
export const ARTIFACT_TYPES = ["general", "model", "dataset", "source code", "log"] as const;

/** What would break a line, or show a name as another one. */
export const CONTROL_OR_BIDI = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
const isPlain = (text: string) => !CONTROL_OR_BIDI.test(text);

/** A name is a label and never part of a path; without slashes it is also a safe name for a folder to download to. */
export const ArtifactName = z
  .string()
  .min(1, "must not be empty")
  .max(250)
  .refine(isPlain, "must not contain control characters or marks that change the direction of text")
  .refine((name) => !/[/\\]/.test(name), "must not contain slashes")
  .refine(
    (name) => name.trim() === name && name !== "." && name !== "..",
    "must be more than dots, with no spaces at its ends",
  );

export const ArtifactType = z.string().min(1).max(100).refine(isPlain, "must not contain control characters");

/** Where a file stands in its folder: relative, with "/", never upwards. */
export const FilePath = z
  .string()
  .min(1, "must not be empty")
  .max(1000)
  .refine(isPlain, "must not contain control characters or marks that change the direction of text")
  .refine((path) => !path.includes("\\"), "must not contain backslashes")
  .refine(
    (path) =>
      path
        .split("/")
        .every((part) => part !== "" && part !== "." && part !== ".." && byteLength(part) <= 255),
    "must be a relative path without empty parts, '.' or '..'",
  );

const byteLength = (text: string) => new TextEncoder().encode(text).length;

/** "latest" is the store's: it is always the newest version. v1, v2, … are numbers, not names. */
export const Alias = z
  .string()
  .min(1)
  .max(100)
  .regex(
    /^[\p{L}\p{N}][\p{L}\p{N}._-]*$/u,
    "must be letters, digits, '.', '_' and '-', and begin with a letter or a digit",
  )
  .refine((alias) => !/^v\d+$/.test(alias), "must not look like a version number")
  .refine((alias) => alias !== "latest", "is always the newest version");

export const ArtifactFile = z.object({
  path: FilePath,
  size: z.int().min(0).max(MAX_FILE_BYTES),
  sha256: Sha256,
});
export type ArtifactFile = z.infer<typeof ArtifactFile>;

const Metadata = z.record(z.string().max(1000), Json);
const Description = z.string().max(100_000);

/** What the `fedml` module's arguments say: the platform's environment (dev, test, release) and the device. */
export const Origin = z.object({
  environment: z.string().max(100).optional(),
  edge: z.string().max(250).optional(),
});

/** Nobody could write it to a disk otherwise. */
function isFolder(files: readonly ArtifactFile[]): boolean {
  const paths = new Set(files.map(({ path }) => path));
  return files.every(({ path }) => {
    for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1))
      if (paths.has(path.slice(0, at))) return false;
    return true;
  });
}

/** POST /api/v1/artifacts and /api/v1/runs/{id}/artifacts: every blob is here already. */
export const LogArtifact = z
  .object({
    kind: ArtifactKind,
    name: ArtifactName,
    type: ArtifactType,
    files: z
      .array(ArtifactFile)
      .min(1, "must not be empty")
      .max(100_000)
      .refine((files) => new Set(files.map(({ path }) => path)).size === files.length, "names a path twice")
      .refine(isFolder, "names a file that is also a folder of others"),
    description: Description.optional(),
    metadata: Metadata.optional(),
    aliases: z.array(Alias).max(100).default([]),
    origin: Origin.default({}),
  })
  .meta({ id: "LogArtifact" });
export type LogArtifact = z.infer<typeof LogArtifact>;

/** A version. Times are RFC 3339 UTC with ms. */
export const ArtifactVersion = z
  .object({
    /** Of its artifact. */
    id: z.number(),
    kind: ArtifactKind,
    name: z.string(),
    type: z.string(),
    /** "v3". */
    version: z.string(),
    aliases: z.array(z.string()),
    /** Of its list of files; the same files are the same version. */
    digest: z.string(),
    /** Bytes. */
    size: z.number(),
    files: z.number(),
    description: z.string().nullable(),
    metadata: Metadata,
    created: z.string(),
    /** Runs that logged it, the first one first, and runs that used it. */
    produced_by: z.array(z.string()),
    used_by: z.array(z.string()),
  })
  .meta({ id: "ArtifactVersion" });
export type ArtifactVersion = z.infer<typeof ArtifactVersion>;

export const LoggedArtifact = ArtifactVersion.extend({
  /** false: these files were this version already. */
  is_new: z.boolean(),
}).meta({ id: "LoggedArtifact" });
export type LoggedArtifact = z.infer<typeof LoggedArtifact>;

export const Artifact = z
  .object({
    id: z.number(),
    kind: ArtifactKind,
    name: z.string(),
    type: z.string(),
    description: z.string().nullable(),
    created: z.string(),
    updated: z.string(),
    versions: z.number(),
    /** Label of the source that relayed it; null: it was logged here. A source's names are its own. */
    source: z.string().nullable(),
    latest: ArtifactVersion,
  })
  .meta({ id: "Artifact" });
export type Artifact = z.infer<typeof Artifact>;

/** PATCH of a version: what is absent stays. An alias moves here from whichever version had it. */
export const SetVersion = z
  .object({
    description: Description.nullable().optional(),
    metadata: Metadata.optional(),
    add_aliases: z.array(Alias).max(100).optional(),
    remove_aliases: z.array(Alias).max(100).optional(),
  })
  .meta({ id: "SetVersion" });
export type SetVersion = z.infer<typeof SetVersion>;

/** GET /api/v1/artifacts */
export const QueryArtifacts = z.object({
  kind: ArtifactKind.optional(),
  /** The whole name. */
  name: z.string().max(250).optional(),
  /** Label of the source that relayed them; ".": those logged here. */
  source: z.string().max(250).optional(),
  /** Part of a name or type, whatever its case. */
  search: z.string().max(250).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  /** `next` of the page before. */
  after: z.coerce.number().int().min(1).optional(),
});
export type QueryArtifacts = z.infer<typeof QueryArtifacts>;

export const ArtifactPage = z
  .object({
    artifacts: z.array(Artifact),
    /** Pass as `after` to go on; null on the last page. */
    next: z.number().nullable(),
  })
  .meta({ id: "ArtifactPage" });
export type ArtifactPage = z.infer<typeof ArtifactPage>;

/** GET /api/v1/artifacts/{id}/versions */
export const QueryVersions = z.object({
  /** The one that is called so: for aliases that no path can hold. */
  alias: z.string().max(100).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  /** `next` of the page before. */
  after: z
    .string()
    .regex(/^v\d{1,9}$/, "must be a version such as v3")
    .optional(),
});

export const VersionPage = z
  .object({
    /** The newest first. */
    versions: z.array(ArtifactVersion),
    /** Pass as `after` to go on; null on the last page. */
    next: z.string().nullable(),
  })
  .meta({ id: "VersionPage" });
export type VersionPage = z.infer<typeof VersionPage>;

/** GET …/versions/{v}/files */
export const QueryFiles = z.object({
  limit: z.coerce.number().int().min(1).max(10_000).default(1000),
  /** `next` of the page before. */
  after: z.string().max(1000).optional(),
});

export const FilePage = z
  .object({
    /** By path. */
    files: z.array(
      z.object({
        path: z.string(),
        size: z.number(),
        sha256: z.string(),
        /** Its bytes are still on their way from the source that relayed the version. */
        pending: z.literal(true).optional(),
      }),
    ),
    /** Pass as `after` to go on; null on the last page. */
    next: z.string().nullable(),
  })
  .meta({ id: "FilePage" });
export type FilePage = z.infer<typeof FilePage>;

/** GET …/versions/{v}/file and …/preview: one of its files. */
export const QueryFile = z.object({ path: z.string().min(1).max(1000) });

/** More is another request. */
export const MAX_PACK_FILES = 2000;

/** POST …/versions/{v}/pack: many of its small files. */
export const QueryPack = z
  .object({ paths: z.array(z.string().min(1).max(1000)).min(1).max(MAX_PACK_FILES) })
  .meta({ id: "QueryPack" });

/** POST /api/v1/runs/{id}/inputs: what the run uses. */
export const UseArtifact = z
  .object({
    kind: ArtifactKind,
    name: z.string().min(1).max(250),
    /** v3, an alias, or latest. */
    version: z.string().min(1).max(100).default("latest"),
    /** Label of the source whose name it is; absent: ours, and where there is none the only other one. */
    source: z.string().max(250).optional(),
  })
  .meta({ id: "UseArtifact" });
export type UseArtifact = z.infer<typeof UseArtifact>;

/** A version that a run logged or used, with when it did. */
export const RunArtifact = ArtifactVersion.extend({
  time: z.string(),
  origin: Origin,
}).meta({ id: "RunArtifact" });
export type RunArtifact = z.infer<typeof RunArtifact>;

/** A version that a run says it has logged, and whose bytes are not here. */
export const Announced = z
  .object({
    kind: ArtifactKind,
    name: z.string(),
    type: z.string(),
    /** "awaited": they may still come. "failed": they won't. */
    state: z.enum(["awaited", "failed"]),
    /** Why they won't, in words. */
    reason: z.string().nullable(),
    time: z.string(),
  })
  .meta({ id: "Announced" });
export type Announced = z.infer<typeof Announced>;

/** In the order in which the run did so. */
export const RunArtifacts = z
  .object({
    run: z.string(),
    outputs: z.array(RunArtifact),
    inputs: z.array(RunArtifact),
    announced: z.array(Announced),
  })
  .meta({ id: "RunArtifacts" });
export type RunArtifacts = z.infer<typeof RunArtifacts>;
