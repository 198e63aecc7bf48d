import { z } from "zod";
import { getVersion, resolveVersion } from "../artifact/find.ts";
import type { ArtifactVersion } from "../artifact/schema.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { AppContext } from "./route.ts";

export const VersionParams = z.object({
  id: z.coerce.number().int().min(1),
  /** v3, latest, or an alias of ASCII letters; one of others is found by GET …/versions?alias= */
  v: z.string(),
});

export function idIn(c: AppContext): number {
  const id = c.req.param("id")!;
  if (/^[1-9]\d{0,14}$/.test(id)) return Number(id);
  throw new CollectorError("not-found", "There is no such model or artifact: that is no number.", {
    hint: "GET /api/v1/artifacts?kind=model&name=NAME finds one by its name.",
  });
}

/** The version that the path names. To a run's token there are only those that its run logged or uses. */
export async function versionIn(collector: Collector, c: AppContext): Promise<ArtifactVersion> {
  const { access } = c.var;
  const id = idIn(c);
  const find = async () => getVersion(collector, id, await resolveVersion(collector, id, c.req.param("v")!));
  if (access?.scope !== "run") return find();
  const version = await find().catch(() => undefined);
  if (version && [...version.produced_by, ...version.used_by].includes(access.run)) return version;
  throw new CollectorError("forbidden", `This token reads only what run ${access.run} logged or uses.`, {
    hint: `Note the use first: POST /api/v1/runs/${access.run}/inputs.`,
  });
}

export const numbersOf = ({ id, version }: ArtifactVersion) => ({ id, number: Number(version.slice(1)) });

/** A page of rows of which one more was asked for than fits; `last`: its last, where more follows. */
export const pageOf = <T>(rows: T[], limit: number): { page: T[]; last: T | undefined } => ({
  page: rows.slice(0, limit),
  last: rows.length > limit ? rows[limit - 1] : undefined,
});
