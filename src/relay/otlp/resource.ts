import type { Collector } from "../../collector.ts";
import type { Gpu } from "../../device/schema.ts";
import { VERSION } from "../../version.ts";
import { ProtobufWriter } from "./protobuf.ts";

/** Whose a reading or a line is, as a Resource message. */
export interface Resource {
  key: string;
  bytes: Uint8Array;
}

export type Attributes = Record<string, string | number | undefined>;

/** What is known of runs and machines, looked up once for each batch: names change. */
export interface Resources {
  run(id: string, rank: number): Resource;
  device(id: string): Resource;
  /** Of one GPU; undefined where it is not known. */
  gpu(device: string, uuid: string): Gpu | undefined;
}

export function createResources({ connection }: Collector): Resources {
  const known = new Map<string, Resource>();
  const gpusByDevice = new Map<string, Map<string, Gpu>>();
  const selectRun = connection.prepare("SELECT name, project, device FROM run WHERE id = ? AND deleted = 0");
  const selectDevice = connection.prepare("SELECT name, facts FROM device WHERE id = ?");

  function remember(key: string, attributes: () => Attributes): Resource {
    let resource = known.get(key);
    if (!resource) known.set(key, (resource = { key, bytes: encodeAttributes(1, attributes()) }));
    return resource;
  }

  const hostOf = (id: string): Attributes => ({
    "host.id": id,
    "host.name": (selectDevice.get(id) as { name: string } | undefined)?.name,
  });

  return {
    run: (id, rank) =>
      remember(`run ${rank} ${id}`, () => {
        const row = selectRun.get(id) as { name: string; project: string; device: string | null } | undefined;
        return {
          "service.name": "binnacle",
          // Prometheus-like backends tell series apart by it and the name alone.
          "service.instance.id": rank === 0 ? id : `${id}/${rank}`,
          "binnacle.run.id": id,
          "binnacle.run.name": row?.name,
          "binnacle.project": row?.project,
          "binnacle.rank": rank,
          ...(row?.device && hostOf(row.device)),
        };
      }),
    device: (id) =>
      remember(`device ${id}`, () => ({
        "service.name": "binnacle",
        "service.instance.id": id,
        ...hostOf(id),
      })),
    gpu(device, uuid) {
      let gpus = gpusByDevice.get(device);
      if (!gpus) {
        const row = selectDevice.get(device) as { facts: string } | undefined;
        const facts = row ? (JSON.parse(row.facts) as { gpus?: Gpu[] }) : {};
        gpus = new Map(facts.gpus?.map((gpu) => [gpu.uuid, gpu]));
        gpusByDevice.set(device, gpus);
      }
      return gpus.get(uuid);
    },
  };
}

/** As fields of a message: KeyValue {key = 1, value = 2 {string = 1, int = 3, double = 4}}. What is undefined is left out. */
export function encodeAttributes(field: number, attributes: Attributes): Uint8Array {
  const all = new ProtobufWriter();
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    const any = new ProtobufWriter();
    if (typeof value === "string") any.string(1, value);
    else if (Number.isSafeInteger(value) && value >= 0) any.uint(3, value);
    else any.double(4, value);
    all.message(field, new ProtobufWriter().string(1, key).message(2, any.bytes()).bytes());
  }
  return all.bytes();
}

/** InstrumentationScope {name = 1, version = 2} */
export const SCOPE = new ProtobufWriter().string(1, "binnacle").string(2, VERSION).bytes();
