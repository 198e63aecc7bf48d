import { type Binder, fail, inOutOf, ok, outOf, pointer } from "./calls.ts";
import type { Device, GpmMetric, GpmSample } from "./nvml.ts";
import { GPM_METRICS_GET_BYTES, GpmSamplePointer, layouts, structs, versions } from "./structs.ts";

const head = layouts.GpmMetricsGet.offsets as Record<
  "version" | "numMetrics" | "sample1" | "sample2",
  number
>;
const METRICS = layouts.GpmMetricsGet.size;
const metric = layouts.GpmMetric.offsets as Record<"metricId" | "nvmlReturn" | "value", number>;
const METRIC = layouts.GpmMetric.size;

/** The profiling counters of Hopper and newer. */
export function bindGpm({ bind, device }: Binder) {
  const support = device("nvmlGpmQueryDeviceSupport", inOutOf(structs.GpmSupport));
  const free = bind("nvmlGpmSampleFree", GpmSamplePointer);
  const get = device("nvmlGpmSampleGet", GpmSamplePointer);
  const getOfInstance = device("nvmlGpmMigSampleGet", "uint32_t", GpmSamplePointer);
  const metricsGet = bind("nvmlGpmMetricsGet", "void *");
  const bytes = new Uint8Array(GPM_METRICS_GET_BYTES);
  const view = new DataView(bytes.buffer);
  return {
    gpmQueryDeviceSupport: (of: Device) => {
      const answer = { version: versions.GpmSupport, isSupportedDevice: 0 };
      const code = support.call(of, answer);
      return code === 0 ? ok(answer.isSupportedDevice === 1) : fail(code);
    },
    gpmSampleAlloc: pointer<GpmSample, []>(bind("nvmlGpmSampleAlloc", outOf(GpmSamplePointer))),
    gpmSampleFree: (sample: GpmSample) => free.call(sample),
    gpmSampleGet: (of: Device, sample: GpmSample) => get.call(of, sample),
    gpmMigSampleGet: (of: Device, gpuInstance: number, sample: GpmSample) =>
      getOfInstance.call(of, gpuInstance, sample),
    gpmMetricsGet(earlier: GpmSample, later: GpmSample, ids: readonly number[]) {
      bytes.fill(0, 0, METRICS + ids.length * METRIC);
      view.setUint32(head.version, versions.GpmMetricsGet, true);
      view.setUint32(head.numMetrics, ids.length, true);
      view.setBigUint64(head.sample1, earlier, true);
      view.setBigUint64(head.sample2, later, true);
      for (const [index, id] of ids.entries())
        view.setUint32(METRICS + index * METRIC + metric.metricId, id, true);
      const code = metricsGet.call(bytes);
      if (code !== 0) return fail(code);
      return ok(
        ids.map((metricId, index): GpmMetric => {
          const at = METRICS + index * METRIC;
          const own = view.getInt32(at + metric.nvmlReturn, true);
          const value = view.getFloat64(at + metric.value, true);
          return { metricId, code: own, value: own === 0 && Number.isFinite(value) ? value : null };
        }),
      );
    },
  };
}
