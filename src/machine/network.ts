/** /proc/net/dev, and which interfaces are hardware: bonds, VLANs, bridges and what containers have carry the same bytes again. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Fields, type KernelFile } from "./kernel-file.ts";
import type { NetworkInterface } from "./reading.ts";

export function readNetwork(dev: KernelFile, topology: NetworkTopology): NetworkInterface[] | undefined {
  const bytes = dev.read();
  return bytes && parseNetwork(bytes, (name) => topology.isHardware(name));
}

/** Whether an interface is hardware, looked up when its name is first met. */
export class NetworkTopology {
  readonly #sys: string;
  readonly #isHardwareByName = new Map<string, boolean>();

  constructor(root = "/") {
    this.#sys = join(root, "sys/class/net");
  }

  forget(): void {
    this.#isHardwareByName.clear();
  }

  isHardware(name: string): boolean {
    let is = this.#isHardwareByName.get(name);
    if (is === undefined) {
      const folder = join(this.#sys, name);
      // In a VM a virtual function can stand behind a paravirtual interface, which counts its bytes again.
      is = existsSync(join(folder, "device")) && !existsSync(join(folder, "master/device"));
      this.#isHardwareByName.set(name, is);
    }
    return is;
  }
}

const COLON = 58;

export function parseNetwork(bytes: Buffer, isHardware: (name: string) => boolean): NetworkInterface[] {
  const interfaces: NetworkInterface[] = [];
  const fields = new Fields(bytes);
  // Two lines of headings.
  fields.nextLine();
  fields.nextLine();
  for (; !fields.isEnd; fields.nextLine()) {
    const next = () => fields.number() ?? 0;
    const name = fields.word(COLON);
    if (name === "") continue;
    interfaces.push({
      name,
      receiveBytes: next(),
      receivePackets: next(),
      receiveErrors: next(),
      receiveDrops: next(),
      receiveFifo: next(),
      receiveFrame: next(),
      receiveCompressed: next(),
      receiveMulticast: next(),
      transmitBytes: next(),
      transmitPackets: next(),
      transmitErrors: next(),
      transmitDrops: next(),
      transmitFifo: next(),
      transmitCollisions: next(),
      transmitCarrier: next(),
      transmitCompressed: next(),
      counted: isHardware(name),
    });
  }
  // In a container no interface is hardware.
  if (!interfaces.some(({ counted }) => counted))
    for (const each of interfaces) each.counted = each.name !== "lo";
  return interfaces;
}
