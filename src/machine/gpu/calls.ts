/** One function of the library as a call that never throws, and the shapes that answers come in. */
import { Code } from "./codes.ts";
import koffi from "./koffi.ts";
import { DevicePointer } from "./structs.ts";
import type { Device, Failure, OpenOptions, Result } from "./nvml.ts";

type Library = ReturnType<typeof koffi.load>;
export type Type = Parameters<typeof koffi.sizeof>[0];
// Arguments are what koffi takes for the declared types: numbers, bigints, text, buffers, objects.
export type Call = (...args: unknown[]) => number;

export interface Bound {
  call: Call;
  /** The name it was found under; undefined: the library has none of them. */
  symbol: string | undefined;
}

export const fail = (code: number): Failure => ({ code, value: undefined });
export const ok = <T>(value: T): Result<T> => ({ code: 0, value });

const lacking: Call = () => Code.FUNCTION_NOT_FOUND;
const NOT_AVAILABLE_32 = 0xffffffff;
const NOT_AVAILABLE_64 = 0xffffffffffffffffn;

/** Marks what the library says that it does not know: an identifier, a number of bytes. */
export const known32 = (value: number): number | null => (value === NOT_AVAILABLE_32 ? null : value);
/** koffi gives a bigint above 2^53, where precision is lost in any case. */
export const known64 = (value: number | bigint): number | null =>
  value === NOT_AVAILABLE_64 ? null : Number(value);

/** Binds functions of one library, each by itself: old drivers lack many. */
export function createBinder(library: Library, onCall: OpenOptions["onCall"]): Binder {
  const missing = new Set<string>();

  /** The first of the symbols that the library has. */
  function optional(symbols: string | readonly string[], ...types: Type[]): Bound {
    for (const symbol of [symbols].flat()) {
      let native: Call;
      try {
        native = library.func(symbol, "int32_t", types);
      } catch {
        continue;
      }
      return { symbol, call: onCall === undefined ? native : timed(symbol, native, onCall) };
    }
    return { symbol: undefined, call: lacking };
  }

  function bind(symbols: string | readonly string[], ...types: Type[]): Bound {
    const bound = optional(symbols, ...types);
    if (bound.symbol === undefined) missing.add(nameOf([symbols].flat()[0]!));
    return bound;
  }

  return {
    missing,
    optional,
    bind,
    device: (symbols, ...types) => bind(symbols, DevicePointer, ...types),
  };
}

export interface Binder {
  /** Names of the interface for which the library has no symbol. */
  missing: Set<string>;
  /** Symbols newest first, as the un-suffixed one is the oldest. */
  bind(symbols: string | readonly string[], ...types: Type[]): Bound;
  /** The same, of a function whose first argument is a device. */
  device(symbols: string | readonly string[], ...types: Type[]): Bound;
  /** The same, of one that there is a substitute for. */
  optional(symbols: string | readonly string[], ...types: Type[]): Bound;
}

/** nvmlDeviceGetCount_v2 → deviceGetCount */
function nameOf(symbol: string): string {
  const name = symbol.replace(/^nvml/, "").replace(/_v\d+$/, "");
  return name[0]!.toLowerCase() + name.slice(1);
}

function timed(symbol: string, native: Call, onCall: NonNullable<OpenOptions["onCall"]>): Call {
  return (...args) => {
    const before = performance.now();
    const code = native(...args);
    onCall(symbol, (performance.now() - before) * 1000);
    return code;
  };
}

// Answers are written here and read at once; all calls are made by one thread.
const word = new Uint32Array(1);
const second = new Uint32Array(1);
const signed = new Int32Array(word.buffer);
const wide = new BigUint64Array(1);
const letters = Buffer.alloc(96);

type DeviceCall<T, A extends unknown[] = []> = (device: Device, ...args: A) => Result<T>;

/** `f(device, …, uint32_t *)`. What is marked as not available is not supported. */
export function u32<A extends unknown[] = []>(bound: Bound): DeviceCall<number, A> {
  return (device, ...args) => {
    const code = bound.call(device, ...args, word);
    if (code !== 0) return fail(code);
    return word[0] === NOT_AVAILABLE_32 ? fail(Code.NOT_SUPPORTED) : ok(word[0]!);
  };
}

export function i32<A extends unknown[] = []>(bound: Bound): DeviceCall<number, A> {
  return (device, ...args) => {
    const code = bound.call(device, ...args, word);
    return code === 0 ? ok(signed[0]!) : fail(code);
  };
}

export function flag(bound: Bound): DeviceCall<boolean>;
export function flag<A extends unknown[]>(bound: Bound): DeviceCall<boolean, A>;
export function flag(bound: Bound): DeviceCall<boolean, unknown[]> {
  return (device, ...args) => {
    const code = bound.call(device, ...args, word);
    return code === 0 ? ok(word[0] === 1) : fail(code);
  };
}

export function u64<A extends unknown[] = []>(bound: Bound): DeviceCall<number, A> {
  return (device, ...args) => {
    const code = bound.call(device, ...args, wide);
    if (code !== 0) return fail(code);
    return wide[0] === NOT_AVAILABLE_64 ? fail(Code.NOT_SUPPORTED) : ok(Number(wide[0]));
  };
}

/** Two numbers of 32 bits. */
export function pair<T>(bound: Bound, make: (first: number, second: number) => T): DeviceCall<T> {
  return (device) => {
    const code = bound.call(device, word, second);
    return code === 0 ? ok(make(word[0]!, second[0]!)) : fail(code);
  };
}

/** `f(…, char *, length)` */
export function text<A extends unknown[]>(bound: Bound): (...args: A) => Result<string> {
  return (...args) => {
    const code = bound.call(...args, letters, letters.length);
    if (code !== 0) return fail(code);
    const end = letters.indexOf(0);
    return ok(letters.toString("latin1", 0, end < 0 ? letters.length : end));
  };
}

/** `f(…, T *)` where T is a pointer that the library gives. */
export function pointer<T extends bigint, A extends unknown[]>(bound: Bound): (...args: A) => Result<T> {
  return (...args) => {
    const out: [T | null] = [null];
    const code = bound.call(...args, out);
    // A success without a pointer would be followed to address 0.
    return code !== 0 ? fail(code) : out[0] === null ? fail(Code.UNKNOWN) : ok(out[0]);
  };
}

export const outOf = (type: Type): Type => koffi.out(koffi.pointer(type));
export const inOutOf = (type: Type): Type => koffi.inout(koffi.pointer(type));
