import { announce, type Announcement } from "../artifact/announce.ts";
import { ArtifactName } from "../artifact/schema.ts";
import type { Objects } from "../blob/objects.ts";
import { readLabel } from "./events.ts";
import type { FedmlScope } from "./keys.ts";
import { placeOfUrl } from "./object-key.ts";
import { readPayload, readText, toJson, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

export interface ObjectContext extends FedmlContext {
  objects: Objects;
}

/** FedML's numbers for its types. */
const TYPE_BY_NUMBER: Record<number, string> = {
  1: "general",
  2: "model",
  3: "dataset",
  4: "source code",
  5: "log",
};
/** The key under which the client's uploader puts it. A log that a person logs is a version like any other. */
const UPLOADED_LOG = /^fedml-run-.+-edge-.+-upload_log\.zip$/;
const MAX_DESCRIPTION = 100_000;
const MAX_EDGE = 250;

/** `fedml.log_artifact` and `log_model`: what the object is that was put into the storage before, or is about to be. */
export const artifactTopics = (context: ObjectContext): FedmlTopic[] => [
  {
    filter: "launch_device/mlops/artifacts",
    async receive({ scope, payload }) {
      const fields = readPayload(payload);
      const run = await placeRun(context.collector, scope, fields["job_id"] ?? fields["run_id"]);
      const at = whereIs(context, scope, fields["artifact_url"]);
      await announce(context.collector, context.objects, {
        run,
        about: aboutOf(fields),
        at,
        // The log of a run that goes on is put anew each half minute, and announced once.
        follow: typeOf(fields) === "log" && "place" in at && UPLOADED_LOG.test(at.place.key),
      });
    },
  },
];

const typeOf = (fields: Payload) => TYPE_BY_NUMBER[Number(fields["artifact_type"])] ?? "general";

function aboutOf(fields: Payload): Announcement["about"] {
  const type = typeOf(fields);
  const description = readText(fields["artifact_desc"], MAX_DESCRIPTION);
  const extra = fields["artifact_ext_info"];
  const metadata =
    typeof extra === "object" && extra !== null && !Array.isArray(extra)
      ? (toJson(extra) as Record<string, never>)
      : {};
  return {
    kind: type === "model" ? "model" : "artifact",
    name: nameOf(fields["artifact_name"]),
    type,
    metadata,
    aliases: [],
    origin: originOf(fields),
    ...(description !== undefined && { description }),
  };
}

/** Unnamed ones are one name: the client's own default is "". */
export function nameOf(given: unknown): string {
  const label = (readLabel(given, 250) ?? "").replaceAll(/[/\\]/g, "-").trim();
  const parsed = ArtifactName.safeParse(label);
  if (parsed.success) return parsed.data;
  const plain = label.replaceAll(/[\p{Cc}\p{Cf}]/gu, "").trim();
  return ArtifactName.safeParse(plain).success ? plain : "unnamed";
}

export function originOf(fields: Payload): Announcement["about"]["origin"] {
  const edge = readLabel(fields["edge_id"], MAX_EDGE);
  return edge === undefined ? {} : { edge };
}

/** The address holds the run's secret: it is read here and kept nowhere. */
export function whereIs(
  { keys, counts }: ObjectContext,
  scope: FedmlScope,
  url: unknown,
): Announcement["at"] {
  if (typeof url !== "string" || url.trim() === "")
    return { missing: "Its upload failed: the client says no address." };
  const found = placeOfUrl(keys, scope, url);
  if (found === "elsewhere") return { missing: "It was put elsewhere than here." };
  if (found !== "foreign") return found;
  counts.add("forbidden");
  return { missing: "Its address is another run's." };
}
