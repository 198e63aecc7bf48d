/** Calls the library that BINNACLE_NVML names, so many times, and prints what a process of its own has to tell. */
import { readFileSync } from "node:fs";
import { openNvml } from "../../src/machine/gpu/nvml.ts";

const calls = Number(process.argv[2] ?? 0);
const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]);
const isMapped = () => readFileSync("/proc/self/maps", "utf8").includes("koffi");

const mappedBefore = isMapped();
const opened = await openNvml();
const nvml = opened.nvml;
if (!nvml) {
  console.log(JSON.stringify({ mappedBefore, mapped: isMapped(), reason: opened.reason }));
  process.exit(0);
}
nvml.init();
const gpu = nvml.deviceGetHandleByIndex(0).value!;
const fields = [{ fieldId: 82 }, { fieldId: 83 }, { fieldId: 186 }, { fieldId: 138, scopeId: 0xffffffff }];
const set = nvml.eventSetCreate().value!;
const samples = [nvml.gpmSampleAlloc().value!, nvml.gpmSampleAlloc().value!] as const;
const round = [
  () => nvml.deviceGetUtilizationRates(gpu),
  () => nvml.deviceGetMemoryInfo(gpu),
  () => nvml.deviceGetTemperature(gpu),
  () => nvml.deviceGetPowerUsage(gpu),
  () => nvml.deviceGetTotalEnergyConsumption(gpu),
  () => nvml.deviceGetName(gpu),
  () => nvml.deviceGetFieldValues(gpu, fields),
  () => nvml.deviceGetComputeRunningProcesses(gpu),
  () => nvml.eventSetWait(set),
  () => ({ code: nvml.gpmSampleGet(gpu, samples[0]) }),
  () => nvml.deviceGetHandleByIndex(0),
];

const make = (count: number) => {
  for (let call = 0; call < count; call++) round[call % round.length]!();
};
/** The heap grows to its usual size, and what is compiled is. */
make(Math.min(calls, 50_000));
const before = rss();
make(calls);
console.log(
  JSON.stringify({
    mappedBefore,
    mapped: isMapped(),
    path: nvml.path,
    name: nvml.deviceGetName(gpu).value,
    codes: round.map((call) => call().code),
    grownKiB: rss() - before,
  }),
);
process.exit(0);
