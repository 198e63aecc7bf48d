/** Events of the GPUs: Xids, and instances that come and go. */
import { actionOf, Code } from "./codes.ts";
import { EventType, type Device, type EventData, type EventSet, type Nvml } from "./nvml.ts";

export interface Events {
  /** Those since the last call. */
  poll(): EventData[];
  close(): void;
}

const WANTED = EventType.xid | EventType.migChange;
/** A GPU in trouble can tell the same hundreds of times a second; the rest is told at the next tick. */
const MOST = 32;

/** Hears of the GPUs that tell; the others, and drivers without events, are silent. */
export function createEvents(nvml: Nvml, devices: readonly Device[]): Events {
  const refused = new Set<Device>();
  let set = register();

  function register(): EventSet | undefined {
    const { value: set } = nvml.eventSetCreate();
    if (set === undefined) return undefined;
    for (const device of devices) {
      if (refused.has(device)) continue;
      const supported = nvml.deviceGetSupportedEventTypes(device).value ?? 0;
      const types = (supported % 2 ** 31) & WANTED;
      if (types === 0) continue;
      // After this answer the set can't be used any more: the others get a new one.
      if (nvml.deviceRegisterEvents(device, types, set) === Code.UNKNOWN) {
        refused.add(device);
        nvml.eventSetFree(set);
        return register();
      }
    }
    return set;
  }

  return {
    poll() {
      const happened: EventData[] = [];
      while (set !== undefined && happened.length < MOST) {
        const { code, value } = nvml.eventSetWait(set);
        if (value !== undefined) happened.push(value);
        // Whoever is lost tells it itself at its next reading.
        if (value !== undefined) continue;
        if (actionOf(code) === "permanent" || actionOf(code) === "denied") this.close();
        break;
      }
      return happened;
    },
    close() {
      if (set !== undefined) nvml.eventSetFree(set);
      set = undefined;
    },
  };
}
