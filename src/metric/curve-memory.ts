import type { EncodedCurve } from "./encoded-curve.ts";

/** Of all curves that are remembered. */
const MAX_REMEMBERED_BYTES = 8 * 1024 * 1024;
/** What a curve costs beside its columns. */
const CURVE_OVERHEAD = 600;

interface Remembered {
  version: string;
  curve: EncodedCurve | null;
}

export interface CurveMemory {
  /** undefined: not known; null: there is nothing to be drawn. */
  get(name: string, version: string): EncodedCurve | null | undefined;
  put(name: string, version: string, curve: EncodedCurve | null): void;
}

/** Two generations: once the younger is half of what may be, the older goes, less what was asked for since. */
export function createCurveMemory(): CurveMemory {
  let older = new Map<string, Remembered>();
  let younger = new Map<string, Remembered>();
  let size = 0;

  function put(name: string, one: Remembered): void {
    younger.set(name, one);
    size += sizeOf(one.curve);
    if (size < MAX_REMEMBERED_BYTES / 2) return;
    older = younger;
    younger = new Map();
    size = 0;
  }

  return {
    get(name, version) {
      const one = younger.get(name) ?? older.get(name);
      if (one?.version !== version) return undefined;
      if (older.delete(name)) put(name, one);
      return one.curve;
    },
    put: (name, version, curve) => put(name, { version, curve }),
  };
}

function sizeOf(curve: EncodedCurve | null): number {
  if (!curve) return CURVE_OVERHEAD;
  const { axis, y, min, max } = curve;
  return [axis, y, min, max].reduce((sum, column) => sum + (column?.bytes?.length ?? 0), CURVE_OVERHEAD);
}
