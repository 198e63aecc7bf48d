import { isReading, type Gpu, type GpuReader } from "../device/schema.ts";
import type { DeviceEvent, NewDeviceEvent } from "../sample/schema.ts";
import { MACHINE } from "../sample/subject.ts";
import type { ReaderMessage } from "./gpu/message.ts";
import { throttleNames } from "../sample/reading.ts";
import { xidName } from "./gpu/xid.ts";

type Message<K extends ReaderMessage["kind"]> = Extract<ReaderMessage, { kind: K }>;

/**
 * What of the reader's messages is worth keeping as an event. One for each sampler: it remembers what was told, beginning with
 * what an earlier collector had told and could not take back: else a cured mismatch stood in every chart's gaps for ever.
 */
export function createGpuEvents(
  gpus: () => readonly Gpu[],
  open: readonly DeviceEvent[] = [],
): (message: ReaderMessage) => NewDeviceEvent[] {
  /** Status of the reader, with its reason where that says why there are no values. */
  let told: string | undefined;
  const stateByReading = new Map<string, string>();
  const lost = new Set<string>();
  const throttled = new Set<string>();
  for (const { kind, subject, detail } of open) {
    if (kind === "gpu.status") told = `${String(detail["status"])} ${String(detail["reason"])}`;
    else if (kind === "reading.state")
      stateByReading.set(`${subject} ${String(detail["reading"])}`, String(detail["state"]));
    else if (kind === "gpu.lost") lost.add(subject);
    else if (kind === "throttle.began") throttled.add(subject);
  }
  const nameOf = (uuid: string) => {
    const gpu = gpus().find((one) => one.uuid === uuid);
    return gpu ? `GPU ${gpu.index} (${gpu.name})` : `GPU ${uuid}`;
  };

  function ofReader(time: number, reader: GpuReader): NewDeviceEvent[] {
    const previous = told;
    told = isReading(reader) ? reader.status : `${reader.status} ${reader.reason}`;
    // A machine without GPUs has nothing to tell of them.
    if (previous === told || (previous === undefined && isAtRest(reader))) return [];
    return [
      {
        subject: MACHINE,
        time,
        kind: "gpu.status",
        text: `GPUs: ${statusText[reader.status]}${reader.reason === null ? "" : ` (${reader.reason})`}`,
        detail: { status: reader.status, reason: reader.reason, advice: reader.advice },
      },
    ];
  }

  function ofReading({ time, uuid, reading, state, reason }: Message<"state">): NewDeviceEvent[] {
    const key = `${uuid} ${reading}`;
    const previous = stateByReading.get(key) ?? "ok";
    stateByReading.set(key, state);
    // What a GPU never had is a fact about it, not something that happened.
    if (state === previous || state === "unsupported" || (previous === "unsupported" && state === "ok"))
      return [];
    const text =
      state === "ok"
        ? `${nameOf(uuid)}: ${reading} is read again`
        : `${nameOf(uuid)}: ${reading} can't be read (${reason})`;
    return [{ subject: uuid, time, kind: "reading.state", text, detail: { reading, state, reason } }];
  }

  /** A reader that begins anew tells all states at once, and of those that are well again nothing. */
  function ofReadings({ time, gpus }: Message<"inventory">): NewDeviceEvent[] {
    return gpus.flatMap(({ uuid, states }) => {
      const well = [...stateByReading.keys()]
        .filter((key) => key.startsWith(`${uuid} `))
        .map((key) => key.slice(uuid.length + 1))
        .filter((reading) => !(reading in states));
      return [
        ...well.flatMap((reading) =>
          ofReading({ kind: "state", time, uuid, reading, state: "ok", reason: "" }),
        ),
        ...Object.entries(states).flatMap(([reading, { state, reason }]) =>
          ofReading({ kind: "state", time, uuid, reading, state, reason }),
        ),
      ];
    });
  }

  function ofLoss({ kind, time, uuid, reason }: Message<"lost" | "back">): NewDeviceEvent {
    if (kind === "lost") lost.add(uuid);
    else lost.delete(uuid);
    const text = `${nameOf(uuid)} ${kind === "lost" ? "is lost" : "is back"}${reason === "" ? "" : `: ${reason}`}`;
    return { subject: uuid, time, kind: kind === "lost" ? "gpu.lost" : "gpu.back", text, detail: { reason } };
  }

  function ofThrottling({ time, uuid, reasons }: Omit<Message<"throttle">, "kind">): NewDeviceEvent {
    const names = throttleNames(reasons);
    if (reasons === 0) throttled.delete(uuid);
    else throttled.add(uuid);
    const text =
      reasons === 0
        ? `${nameOf(uuid)}: clocks are no longer held down`
        : `${nameOf(uuid)}: clocks are held down (${names.join(", ")})`;
    return {
      subject: uuid,
      time,
      kind: reasons === 0 ? "throttle.ended" : "throttle.began",
      text,
      detail: { reasons, names },
    };
  }

  /** A reader that begins anew says what is wrong, and nothing of what is well again. */
  function ofNewReader({ time, gpus }: Message<"inventory">): NewDeviceEvent[] {
    const there = gpus.filter(({ lost }) => !lost).map(({ uuid }) => uuid);
    return [
      ...there
        .filter((uuid) => lost.has(uuid))
        .map((uuid) => ofLoss({ kind: "back", time, uuid, reason: "" })),
      ...[...throttled].map((uuid) => ofThrottling({ time, uuid, reasons: 0 })),
    ];
  }

  return (message) => {
    switch (message.kind) {
      case "inventory":
        return [...ofReader(message.time, message.reader), ...ofNewReader(message), ...ofReadings(message)];
      case "status":
        return ofReader(message.time, message.reader);
      case "state":
        return ofReading(message);
      case "lost":
      case "back":
        return [ofLoss(message)];
      case "xid": {
        const { time, uuid, xid } = message;
        const name = xidName(xid);
        return [
          {
            subject: uuid,
            time,
            kind: "gpu.xid",
            text: `${nameOf(uuid)}: Xid ${name}`,
            detail: { xid, name },
          },
        ];
      }
      case "throttle":
        return [ofThrottling(message)];
      case "beat":
      case "samples":
      case "processes":
        return [];
    }
  };
}

const isAtRest = ({ status }: GpuReader) =>
  status === "ok" || status === "off" || status === "absent" || status === "starting" || status === "no_gpu";

const statusText: Record<GpuReader["status"], string> = {
  ok: "read again",
  off: "not read, as asked",
  absent: "no NVIDIA driver on this machine",
  no_driver: "the driver is not loaded",
  no_gpu: "the driver finds none",
  mismatch: "driver and library are of different versions",
  container_lost: "the container lost its access",
  starting: "the reader is being started",
  hung: "the driver does not answer",
  degraded: "read less often, as reading takes too long",
  failed: "the reader failed",
};
