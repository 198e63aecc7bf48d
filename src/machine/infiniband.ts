/** Ports of /sys/class/infiniband: what RDMA carries is in no other file, and between the nodes of a training that is most. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Fields, KernelFile } from "./kernel-file.ts";
import type { InfinibandPort } from "./reading.ts";

export interface PortFiles {
  device: string;
  port: number;
  receive: KernelFile;
  transmit: KernelFile;
}

export function findPorts(root = "/"): PortFiles[] {
  const folder = join(root, "sys/class/infiniband");
  return entries(folder).flatMap((device) =>
    entries(join(folder, device, "ports")).map((port) => {
      const counters = join(folder, device, "ports", port, "counters");
      return {
        device,
        port: Number(port),
        receive: new KernelFile(join(counters, "port_rcv_data")),
        transmit: new KernelFile(join(counters, "port_xmit_data")),
      };
    }),
  );
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

export function readPorts(files: readonly PortFiles[]): InfinibandPort[] | undefined {
  const ports: InfinibandPort[] = [];
  for (const { device, port, receive, transmit } of files) {
    const receiveBytes = counter(receive);
    const transmitBytes = counter(transmit);
    if (receiveBytes !== undefined && transmitBytes !== undefined)
      ports.push({ device, port, receiveBytes, transmitBytes });
  }
  return ports.length > 0 ? ports : undefined;
}

function counter(file: KernelFile): number | undefined {
  const bytes = file.read();
  return bytes && parseCounter(bytes);
}

/** In words of 4 bytes. undefined for "N/A (no PMA)", as a port without counters says. */
export function parseCounter(bytes: Buffer): number | undefined {
  const words = new Fields(bytes).number();
  return words === undefined ? undefined : words * 4;
}
