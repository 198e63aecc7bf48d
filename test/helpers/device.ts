import type { Device, DeviceFacts, Gpu } from "../../src/device/schema.ts";

export const DEVICE = "3f9c1a5b7d2e4f60";
export const GIB = 1024 ** 3;
export const TIME = Date.UTC(2026, 10, 23, 14, 26, 49);

export const gpu = (index: number, more: Partial<Gpu> = {}): Gpu => ({
  uuid: `GPU-${index}`,
  index,
  name: "NVIDIA H100 80GB HBM3",
  vendor: "nvidia",
  pci: `00000000:0${index}:00.0`,
  minor: index,
  architecture: "Hopper",
  cores: 16_896,
  memory: 79.6 * GIB,
  power_limit: 700,
  max_clock_sm: 1980,
  max_clock_memory: 2619,
  slowdown_temperature: 89,
  parent: null,
  gpu_instance: null,
  compute_instance: null,
  profile: null,
  mig: false,
  lost: false,
  states: {},
  ...more,
});

export const facts = (more: Partial<DeviceFacts> = {}): DeviceFacts => ({
  name: "node1",
  os: "Linux",
  kernel: "6.1.0",
  architecture: "x64",
  boot: "b-1",
  processor: "AMD EPYC 7763",
  cores: 64,
  memory: 251.6 * GIB,
  container: false,
  gpu_reader: {
    status: "ok",
    reason: null,
    advice: null,
    driver: "550.54.15",
    cuda: "12.4",
    library: "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
  },
  gpus: [gpu(0), gpu(1)],
  ...more,
});

export const device = (more: Partial<Device> = {}): Device => ({
  ...facts(),
  id: DEVICE,
  local: true,
  source: null,
  first_seen: new Date(TIME - 3_600_000).toISOString(),
  last_seen: new Date(TIME).toISOString(),
  runs: [],
  latest: {},
  ...more,
});

export const machineValues = {
  "cpu.utilization": 0.3124,
  "cpu.user": 0.25,
  "cpu.system": 0.05,
  "cpu.iowait": 0.01,
  "cpu.steal": 0,
  "load.1": 20.5,
  "load.5": 18.25,
  "load.15": 9,
  "memory.used": 113.4 * GIB,
  "memory.total": 251.6 * GIB,
  "swap.used": 0,
  "swap.total": 8 * GIB,
  "disk.read": 12.3 * 1024 ** 2,
  "disk.write": 100 * 1024 ** 2,
  "disk.utilization@nvme0n1": 0.5,
  "disk.utilization@nvme1n1": 0.02,
  "network.receive": 1.2 * 1024 ** 2,
  "network.transmit": 3.3 * 1024 ** 2,
};

export const gpuValues = {
  "gpu.utilization": 0.83,
  "gpu.memory.used": 71.2 * GIB,
  "gpu.memory.total": 79.6 * GIB,
  "gpu.temperature": 64,
  "gpu.power": 612.3,
  "gpu.power.limit": 700,
  "gpu.clock.sm": 1980,
  "gpu.clock.memory": 2619,
  "gpu.throttle": 0,
};
