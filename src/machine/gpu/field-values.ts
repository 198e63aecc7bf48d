import { type Binder, fail, known32, known64, ok } from "./calls.ts";
import type { Device, FieldRequest, FieldValue } from "./nvml.ts";
import { layouts } from "./structs.ts";

const { size, offsets } = layouts.FieldValue as {
  size: number;
  offsets: Record<"fieldId" | "scopeId" | "latencyUsec" | "valueType" | "nvmlReturn" | "value", number>;
};

/** Many readings with one call. Read by hand: koffi takes 3 µs for a structure with a union, and these are read each second. */
export function bindFieldValues({ device }: Binder) {
  const getFieldValues = device("nvmlDeviceGetFieldValues", "int32_t", "void *");
  let bytes = new Uint8Array(32 * size);
  let view = new DataView(bytes.buffer);
  return {
    deviceGetFieldValues(of: Device, fields: readonly FieldRequest[]) {
      if (fields.length * size > bytes.length) {
        bytes = new Uint8Array(fields.length * size);
        view = new DataView(bytes.buffer);
      }
      bytes.fill(0);
      for (const [index, { fieldId, scopeId = 0 }] of fields.entries()) {
        view.setUint32(index * size + offsets.fieldId, fieldId, true);
        view.setUint32(index * size + offsets.scopeId, scopeId, true);
      }
      const code = getFieldValues.call(of, fields.length, bytes);
      if (code !== 0) return fail(code);
      return ok(
        fields.map(({ fieldId, scopeId = 0 }, index) => readField(view, index * size, fieldId, scopeId)),
      );
    },
  };
}

function readField(view: DataView, at: number, fieldId: number, scopeId: number): FieldValue {
  const code = view.getInt32(at + offsets.nvmlReturn, true);
  const valueType = view.getInt32(at + offsets.valueType, true);
  return {
    fieldId,
    scopeId,
    code,
    value: code === 0 ? valueOf(view, at + offsets.value, valueType) : null,
    latency: Number(view.getBigInt64(at + offsets.latencyUsec, true)),
  };
}

/** nvmlValueType_t. A type nobody knows yet is no value, nor is the mark for what is not available. */
export function valueOf(view: DataView, at: number, valueType: number): number | null {
  switch (valueType) {
    case 0:
      return view.getFloat64(at, true);
    case 1:
      return known32(view.getUint32(at, true));
    // unsigned long: 8 bytes where this runs.
    case 2:
    case 3:
      return known64(view.getBigUint64(at, true));
    case 4:
      return Number(view.getBigInt64(at, true));
    case 5:
      return view.getInt32(at, true);
    case 6:
      return view.getUint16(at, true);
    default:
      return null;
  }
}
