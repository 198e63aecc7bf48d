import type { Collector } from "../collector.ts";
import { getDevice, listDevices } from "../device/list.ts";
import type { Device } from "../device/schema.ts";
import type { LiveSamples } from "../sample/latest.ts";
import type { DeviceEvent, Sample } from "../sample/schema.ts";
import type { Announcement } from "../store/bus.ts";
import { eventText, type EventStream } from "./stream.ts";

const TICK_MS = 1000;
/** A device's readings of one second come in several pieces: those of its GPUs from another process. */
const GATHER_MS = 150;
/** Between two looks at what devices are, however often they change. */
const LOOK_MS = 250;

interface Reader {
  stream: EventStream;
  /** undefined: all devices. */
  device: string | undefined;
  /** What it was told of each device last: text that all readers share. */
  told: Map<string, string>;
  /** It was too slow for something, which is lost to it: it hears `ready` again before anything else. */
  behind: boolean;
}

interface Tick {
  samples: Sample[];
  timer: ReturnType<typeof setTimeout> | undefined;
  at: number;
}

/** The devices as they are now, for who watches: a tick is put together once, and the same bytes go to all. */
export interface DeviceHub {
  /** What a reader has to hear first. */
  present(device: string | undefined): Promise<Device[]>;
  /** Returns what ends it. */
  watch(device: string | undefined, present: Device[], stream: EventStream): () => void;
  readonly readers: number;
}

export function createDeviceHub(collector: Collector, onError: (error: unknown) => void): DeviceHub {
  const readers = new Set<Reader>();
  const tickByDevice = new Map<string, Tick>();
  let unsubscribe: (() => void)[] = [];
  let looking: ReturnType<typeof setTimeout> | undefined;
  let looks = Promise.resolve();
  let lookedAt = -Infinity;

  function hearSamples({ device, samples }: LiveSamples): void {
    let tick = tickByDevice.get(device);
    if (!tick) tickByDevice.set(device, (tick = { samples: [], timer: undefined, at: -Infinity }));
    tick.samples.push(...samples);
    tick.timer ??= setTimeout(
      () => flush(device, tick),
      Math.max(GATHER_MS, tick.at + TICK_MS - performance.now()),
    );
  }

  function flush(device: string, tick: Tick): void {
    const { samples } = tick;
    tick.timer = undefined;
    tick.at = performance.now();
    tick.samples = [];
    tell(device, () => eventText("samples", { device, samples } satisfies LiveSamples));
  }

  function hearNews({ kind, data }: Announcement): void {
    if (kind === "event.recorded")
      for (const event of data as DeviceEvent[]) tell(event.device, () => eventText("event", event));
    else if (kind === "device.changed" || kind === "use.changed" || kind.startsWith("run.")) lookSoon();
  }

  /** The text is made once, and only where somebody listens. */
  function tell(device: string, text: () => string): void {
    let made: string | undefined;
    for (const reader of readers) if (isFor(reader, device)) send(reader, (made ??= text()));
  }

  function send(reader: Reader, text: string): boolean {
    const isSent = reader.stream.send(reader.behind ? ready() + text : text);
    if (isSent && reader.behind) lookSoon();
    reader.behind = !isSent;
    return isSent;
  }

  const ready = () => eventText("ready", { time: collector.now() });

  function lookSoon(): void {
    looking ??= setTimeout(
      () => {
        looking = undefined;
        looks = looks.then(look).catch(onError);
      },
      Math.max(0, lookedAt + LOOK_MS - performance.now()),
    );
  }

  /** Tells each reader of the devices that are no longer as it was told. */
  async function look(): Promise<void> {
    lookedAt = performance.now();
    for (const device of await listDevices(collector)) {
      const state = stateOf(device);
      let text: string | undefined;
      for (const reader of readers) {
        if (!isFor(reader, device.id) || reader.told.get(device.id) === state) continue;
        if (send(reader, (text ??= eventText("device", device)))) reader.told.set(device.id, state);
      }
    }
  }

  return {
    get readers() {
      return readers.size;
    },
    present: async (device) =>
      device === undefined ? listDevices(collector) : [await getDevice(collector, device)],
    watch(device, present, stream) {
      if (readers.size === 0)
        unsubscribe = [collector.latest.subscribe(hearSamples), collector.bus.subscribe(hearNews)];
      const told = new Map(present.map((known) => [known.id, stateOf(known)]));
      const reader: Reader = { stream, device, told, behind: false };
      readers.add(reader);
      send(reader, ready() + present.map((known) => eventText("device", known)).join(""));
      // What changed while the present was read.
      lookSoon();
      return () => {
        readers.delete(reader);
        if (readers.size > 0) return;
        for (const end of unsubscribe) end();
        for (const { timer } of tickByDevice.values()) clearTimeout(timer);
        tickByDevice.clear();
        clearTimeout(looking);
        looking = undefined;
      };
    },
  };
}

const isFor = (reader: Reader, device: string) => reader.device === undefined || reader.device === device;

/** All but what every sample changes. */
const stateOf = ({ latest: _latest, last_seen: _lastSeen, ...state }: Device): string =>
  JSON.stringify(state);
