import { z } from "zod";

export const RunStatus = z.enum([
  "QUEUED",
  "STARTING",
  "RUNNING",
  "STOPPING",
  "FINISHED",
  "FAILED",
  "KILLED",
]);
export type RunStatus = z.infer<typeof RunStatus>;

/** False once a run has ended. */
export const isLive = (status: RunStatus) =>
  status !== "FINISHED" && status !== "FAILED" && status !== "KILLED";

/** Any JSON. */
export const Json = z.json().meta({ id: "Json" });

const hasControl = (text: string) => /\p{Cc}/u.test(text);

/** A label given by a person: one line, no control characters. */
export const Label = z
  .string()
  .min(1, "must not be empty")
  .max(250)
  .refine((text) => !hasControl(text), "must not contain control characters");

/** 15 decimal digits where we choose it; a person may bring their own. Never part of a file path. */
export const RunId = z
  .string()
  .min(1, "must not be empty")
  .max(128)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "use letters, digits, '.', '_' and '-'");

/** One process that reports to a run. A new process takes a new id: its batches are numbered from 1. */
export const ClientId = z
  .string()
  .min(1, "must not be empty")
  .max(128)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]*$/, "use letters, digits, '.', '_', ':' and '-'");

const MAX_CONFIG_DEPTH = 64;

const isShallow = (value: unknown, depth: number): boolean =>
  typeof value !== "object" ||
  value === null ||
  (depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1)));

/** JSON as users give it. Integers above 2^53 arrive as strings from our clients and stay exact. */
export const Config = z
  .record(z.string().max(1000), Json)
  .refine(
    (config) => isShallow(config, MAX_CONFIG_DEPTH),
    `must not be nested deeper than ${MAX_CONFIG_DEPTH}`,
  );
export type Config = z.infer<typeof Config>;

/** Role of a writer: `launch` owns its child and its word about the end is final. */
export const WriterRole = z.enum(["launch", "client"]);
export type WriterRole = z.infer<typeof WriterRole>;

export const Writer = z
  .object({
    client: ClientId,
    role: WriterRole.default("client"),
    /** Rank of a distributed run (RANK, SLURM_PROCID, OMPI_COMM_WORLD_RANK); 0 otherwise. */
    rank: z.int().min(0).max(1_000_000).default(0),
    /** Host name of the machine it runs on. */
    device: z.string().max(255).optional(),
    pid: z.int().positive().optional(),
    /** /proc/sys/kernel/random/boot_id of that machine: a pid means nothing after a reboot. */
    boot: z.string().max(64).optional(),
    /** Field 22 of /proc/<pid>/stat: the same pid with another start is another process, as in a container. */
    start: z.int().min(0).optional(),
  })
  .meta({ id: "Writer" });
export type Writer = z.infer<typeof Writer>;

/** POST /api/v1/runs. With an id that exists the caller joins (live) or resumes (ended) that run. */
export const CreateRun = z
  .object({
    id: RunId.optional(),
    name: Label.optional(),
    project: Label.optional(),
    config: Config.optional(),
    tags: z.array(Label).max(100).optional(),
    notes: z.string().max(100_000).optional(),
    command: z.string().max(100_000).optional(),
    /** When it really started, for runs synced later; ms since the epoch. */
    started: z.number().min(0).max(253_402_300_799_999).optional(),
    writer: Writer.optional(),
  })
  .meta({ id: "CreateRun" });
export type CreateRun = z.infer<typeof CreateRun>;

/** PATCH /api/v1/runs/{id}: what is absent stays; `config` is merged key by key, null removes a key. */
export const SetRun = z
  .object({
    name: Label.optional(),
    project: Label.optional(),
    config: Config.optional(),
    tags: z.array(Label).max(100).optional(),
    notes: z.string().max(100_000).nullable().optional(),
  })
  .meta({ id: "SetRun" });
export type SetRun = z.infer<typeof SetRun>;

/** POST /api/v1/runs/{id}/finish. */
export const FinishRun = z
  .object({
    client: ClientId.optional(),
    status: z.enum(["FINISHED", "FAILED", "KILLED"]).default("FINISHED"),
    reason: z.string().max(10_000).optional(),
    exit_code: z.int().min(0).max(255).optional(),
    /** When it ended, for what is synced later; ms since the epoch. */
    finished: z.number().min(0).max(253_402_300_799_999).optional(),
  })
  .meta({ id: "FinishRun" });
export type FinishRun = z.infer<typeof FinishRun>;

/** POST /api/v1/runs/{id}/stop. */
export const StopRun = z
  .object({
    /** Kill instead of asking: SIGKILL for what `launch` started. */
    force: z.boolean().default(false),
    reason: z.string().max(10_000).optional(),
  })
  .meta({ id: "StopRun" });
export type StopRun = z.infer<typeof StopRun>;

/** GET /api/v1/runs. */
export const ListRuns = z.object({
  /** One of the statuses, or several separated by commas. */
  status: z
    .string()
    .max(200)
    .regex(/^[A-Z]+(,[A-Z]+)*$/, "use statuses such as RUNNING, separated by commas")
    .optional(),
  project: z.string().max(250).optional(),
  /** Label of the source that relayed them; ".": those logged here. */
  source: z.string().max(250).optional(),
  /** Id or host name of a machine they ran on. */
  device: z.string().max(255).optional(),
  /** Part of a name, id, project, tag or note, whatever its case. */
  search: z.string().max(250).optional(),
  sort: z.enum(["created", "name", "project", "status", "started", "finished"]).default("created"),
  /** Absent: newest first, or A to Z. */
  order: z.enum(["asc", "desc"]).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  /** `next` of the page before. */
  after: RunId.optional(),
});
export type ListRuns = z.infer<typeof ListRuns>;

/** A run as every listing shows it. Times are RFC 3339 UTC with ms; null where there is none. */
export const Run = z
  .object({
    id: RunId,
    name: z.string(),
    project: z.string(),
    status: RunStatus,
    /** Why it ended so, in words; null while all is well. */
    reason: z.string().nullable(),
    created: z.string(),
    started: z.string().nullable(),
    finished: z.string().nullable(),
    device: z.string().nullable(),
    exit_code: z.number().nullable(),
    /** Label of the source that relayed it, with whose it is where that one has it from others ("site ▸ box"); null: it was logged here. */
    source: z.string().nullable(),
    /** When it was deleted there; it stays here. */
    deleted_at_source: z.string().nullable(),
  })
  .meta({ id: "Run" });
export type Run = z.infer<typeof Run>;

/** One run with everything known about it. */
export const RunDetail = Run.extend({
  config: Config,
  tags: z.array(z.string()),
  notes: z.string().nullable(),
  command: z.string().nullable(),
  /** Seconds of silence on an open heartbeat, while we cannot know what became of the process; null otherwise. */
  contact_lost: z.number().nullable(),
  writers: z.array(
    z.object({
      client: z.string(),
      role: WriterRole,
      rank: z.number(),
      device: z.string().nullable(),
      pid: z.number().nullable(),
      live: z.boolean(),
    }),
  ),
  /** Largest step seen, where a resumed run counts on from; null before the first record. */
  last_step: z.number().nullable(),
}).meta({ id: "RunDetail" });
export type RunDetail = z.infer<typeof RunDetail>;

export const RunPage = z
  .object({
    runs: z.array(Run),
    /** Pass as `after` to go on; null on the last page. */
    next: z.string().nullable(),
  })
  .meta({ id: "RunPage" });
export type RunPage = z.infer<typeof RunPage>;

/** Answer to POST /api/v1/runs. */
export const CreatedRun = RunDetail.extend({
  /** Step of this writer's next record without one: a resumed run counts on. */
  next_step: z.number(),
}).meta({ id: "CreatedRun" });
export type CreatedRun = z.infer<typeof CreatedRun>;
