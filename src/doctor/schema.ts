import { z } from "zod";

/** POST /api/v1/doctor. */
export const Examine = z
  .object({
    /** Reads neither every file nor the whole database. */
    quick: z.boolean().default(false),
  })
  .meta({ id: "Examine" });
export type Examine = z.infer<typeof Examine>;

export const CheckStatus = z.enum([
  "ok",
  /** Worth knowing; nothing is lost by leaving it. */
  "warning",
  "problem",
  /** Not looked at. */
  "unknown",
]);
export type CheckStatus = z.infer<typeof CheckStatus>;

export const Check = z
  .object({
    name: z.enum(["collector", "folder", "disk", "database", "files", "gpus", "clock", "fedml"]),
    status: CheckStatus,
    /** What was found, in words. */
    text: z.string(),
    /** What to do next; null where there is nothing to do. */
    advice: z.string().nullable(),
  })
  .meta({ id: "Check" });
export type Check = z.infer<typeof Check>;

export const DamagedFile = z
  .object({
    sha256: z.string(),
    size: z.number(),
    /** Where it stands; of more than ten the first. */
    places: z.array(z.object({ kind: z.string(), name: z.string(), version: z.string(), path: z.string() })),
  })
  .meta({ id: "DamagedFile" });
export type DamagedFile = z.infer<typeof DamagedFile>;

export const Examination = z
  .object({
    version: z.string(),
    /** ms since the epoch, by the collector's clock. */
    time: z.number(),
    checks: z.array(Check),
    /** Files whose bytes are not what they were. */
    damaged: z.array(DamagedFile),
  })
  .meta({ id: "Examination" });
export type Examination = z.infer<typeof Examination>;

/** How far it has come, in bytes; total is null where nobody knows. */
export interface ExaminationProgress {
  of: "files" | "database";
  done: number;
  total: number | null;
}

/** One line of the answer: progress, and at the end what was found. */
export type ExaminationLine =
  | { progress: ExaminationProgress }
  | { examination: Examination }
  | { problem: { code: string; message: string } };
