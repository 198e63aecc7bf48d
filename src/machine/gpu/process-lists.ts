import { type Binder, type Bound, fail, known32, known64, ok } from "./calls.ts";
import { Code } from "./codes.ts";
import koffi from "./koffi.ts";
import type { Device, ProcessInfo, ProcessUtilization, Result } from "./nvml.ts";
import { type StructName, layouts, structs } from "./structs.ts";

/** Records there is room for at first: few GPUs serve more processes, and asking for the number costs a call. */
const CAPACITY = 128;
/** A list that has grown again whenever it is read is given up for this time. */
const ATTEMPTS = 5;

interface RawProcess {
  pid: number;
  usedGpuMemory: number | bigint;
  gpuInstanceId?: number;
  computeInstanceId?: number;
}

export function bindProcessLists({ device, optional }: Binder) {
  const utilization = device("nvmlDeviceGetProcessUtilization", "void *", "uint32_t *", "uint64_t");
  const utilizations = createList("ProcessUtilizationSample", CAPACITY);

  /**
   * Drivers 535.43 to 535.85 write the longer record from _v3. They are told by what they have: the confidential-computing call,
   * but not yet the list whose record the longer one is.
   */
  const longRecord =
    optional("nvmlDeviceGetConfComputeMemSizeInfo").symbol !== undefined &&
    optional("nvmlDeviceGetRunningProcessDetailList").symbol === undefined;
  const recordOf = ({ symbol }: Bound): StructName =>
    symbol?.endsWith("_v3") && longRecord
      ? "ProcessDetail_v1"
      : symbol === undefined || /_v\d$/.test(symbol)
        ? "ProcessInfo"
        : "ProcessInfo_v1";

  function running(name: string) {
    const bound = device([`${name}_v3`, `${name}_v2`, name], "uint32_t *", "void *");
    const list = createList(recordOf(bound), CAPACITY);
    return (of: Device): Result<ProcessInfo[]> => {
      const { code, records } = list.read<RawProcess>((count, buffer) => bound.call(of, count, buffer));
      return code === 0 ? ok(records.map(processOf)) : fail(code);
    };
  }

  return {
    deviceGetComputeRunningProcesses: running("nvmlDeviceGetComputeRunningProcesses"),
    deviceGetGraphicsRunningProcesses: running("nvmlDeviceGetGraphicsRunningProcesses"),
    deviceGetMPSComputeRunningProcesses: running("nvmlDeviceGetMPSComputeRunningProcesses"),
    deviceGetProcessUtilization(of: Device, lastSeen: number): Result<ProcessUtilization[]> {
      const { code, records } = utilizations.read<ProcessUtilization>((count, buffer) =>
        utilization.call(of, buffer, count, lastSeen),
      );
      // So it says that nothing is newer.
      if (code === Code.NOT_FOUND) return ok([]);
      return code === 0
        ? ok(records.map((record) => ({ ...record, timeStamp: Number(record.timeStamp) })))
        : fail(code);
    },
  };
}

const processOf = ({ pid, usedGpuMemory, gpuInstanceId, computeInstanceId }: RawProcess): ProcessInfo => ({
  pid,
  usedGpuMemory: known64(usedGpuMemory),
  gpuInstanceId: gpuInstanceId === undefined ? null : known32(gpuInstanceId),
  computeInstanceId: computeInstanceId === undefined ? null : known32(computeInstanceId),
});

/** A kept array of records that grows when the library says that it is too small. */
function createList(name: StructName, capacity: number) {
  const { size } = layouts[name];
  const count = new Uint32Array(1);
  let buffer = Buffer.alloc(capacity * size);
  return {
    read<T>(call: (count: Uint32Array, buffer: Buffer) => number): { code: number; records: T[] } {
      let code: number = Code.INSUFFICIENT_SIZE;
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const room = buffer.length / size;
        count[0] = room;
        code = call(count, buffer);
        const told = count[0];
        if (code === 0) {
          // More than there was room for would be memory that is not ours.
          const written = Math.min(told, room);
          return { code, records: written === 0 ? [] : koffi.decode(buffer, 0, structs[name], written) };
        }
        if (code !== Code.INSUFFICIENT_SIZE) break;
        // Programs start meanwhile: more room than it asked for.
        buffer = Buffer.alloc(Math.max(told * 2 + 5, room * 2) * size);
      }
      return { code, records: [] };
    },
  };
}
