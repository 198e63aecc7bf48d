import { expect, test } from "bun:test";
import { totalmem } from "node:os";
import { join } from "node:path";
import { createMac } from "../src/machine/mac.ts";
import { ratesOf } from "../src/machine/rates.ts";
import type { MachineReading } from "../src/machine/reading.ts";
import { readings, splitKey } from "../src/sample/reading.ts";

// The library reads Linux as well, so the way of a reading through it can be gone here; what a Mac itself answers can't.
test("a Mac is read slowly: one reading is told once, what the library does not tell is absent", async () => {
  const machine = createMac();
  try {
    expect(machine.read()).toBeUndefined();
    let reading: MachineReading | undefined;
    for (let wait = 0; reading === undefined && wait < 200; wait += 1) {
      await Bun.sleep(50);
      reading = machine.read();
    }
    expect(machine.read()).toBeUndefined();
    expect(reading!.failed).toEqual({});
    expect(reading!.interval).toBe(10_000);
    expect(reading!.memory!.get("MemTotal")).toBe(totalmem());
    expect(reading!.cpu!.byCore.size).toBe(machine.facts().cores);
    expect(reading!.cpu!.total).not.toHaveProperty("iowait");
    for (const absent of ["pressure", "cgroup", "vmstat", "kernel", "infiniband"])
      expect(reading).not.toHaveProperty(absent);
    for (const disk of reading!.disks ?? []) expect(disk).not.toHaveProperty("ioSeconds");

    const later: MachineReading = {
      ...reading!,
      time: reading!.time + 10_000,
      monotonic: reading!.monotonic + 10_000,
    };
    const { machine: values, jumpedMs } = ratesOf(reading!, later);
    expect(jumpedMs).toBeNull();
    expect(values["memory.total"]).toBe(totalmem());
    const names = new Set(Object.keys(values).map((key) => splitKey(key).name));
    for (const name of names) expect(Object.keys(readings)).toContain(name);
    for (const absent of ["disk.utilization", "cpu.iowait", "cpu.steal", "memory.cached", "pressure.cpu"])
      expect(names.has(absent)).toBe(false);
  } finally {
    machine.close();
  }
});

test.skipIf(process.platform !== "linux")("Linux never loads what reads a Mac", async () => {
  const script = `
    import { createMachine } from ${JSON.stringify(join(import.meta.dirname, "../src/machine/machine.ts"))};
    const machine = createMachine();
    machine.read();
    await new Promise((resolve) => setTimeout(resolve, 200));
    console.log(Object.keys(require.cache).filter((path) => path.includes("systeminformation")).length);
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  expect((await new Response(child.stdout).text()).trim()).toBe("0");
});
