/** NVML's return codes: their names, and what a reader does about each. */

/**
 * permanent: this reading of this GPU has no value until the library is initialised anew ·
 * denied: the same, for want of a right · empty: there is nothing to tell now, and that is no error ·
 * transient: no value this time, ask again · grow: ask again with more room · version: ask with an older struct ·
 * lost: the GPU does not answer; ask for it by its UUID from time to time · initialise: initialise once more, else restart ·
 * driver: nothing works until the driver is there · mismatch: library and driver differ; a new process may find them agreed.
 */
export type CodeAction =
  | "none"
  | "permanent"
  | "denied"
  | "empty"
  | "transient"
  | "grow"
  | "version"
  | "lost"
  | "initialise"
  | "driver"
  | "mismatch";

export const Code = {
  SUCCESS: 0,
  UNINITIALIZED: 1,
  INVALID_ARGUMENT: 2,
  NOT_SUPPORTED: 3,
  NO_PERMISSION: 4,
  ALREADY_INITIALIZED: 5,
  NOT_FOUND: 6,
  INSUFFICIENT_SIZE: 7,
  INSUFFICIENT_POWER: 8,
  DRIVER_NOT_LOADED: 9,
  TIMEOUT: 10,
  IRQ_ISSUE: 11,
  LIBRARY_NOT_FOUND: 12,
  FUNCTION_NOT_FOUND: 13,
  CORRUPTED_INFOROM: 14,
  GPU_IS_LOST: 15,
  RESET_REQUIRED: 16,
  OPERATING_SYSTEM: 17,
  LIB_RM_VERSION_MISMATCH: 18,
  IN_USE: 19,
  MEMORY: 20,
  NO_DATA: 21,
  VGPU_ECC_NOT_SUPPORTED: 22,
  INSUFFICIENT_RESOURCES: 23,
  FREQ_NOT_SUPPORTED: 24,
  ARGUMENT_VERSION_MISMATCH: 25,
  DEPRECATED: 26,
  NOT_READY: 27,
  GPU_NOT_FOUND: 28,
  INVALID_STATE: 29,
  RESET_TYPE_NOT_SUPPORTED: 30,
  UNKNOWN: 999,
} as const;
export type CodeName = keyof typeof Code;

const actions: Record<CodeName, CodeAction> = {
  SUCCESS: "none",
  UNINITIALIZED: "initialise",
  // Our own mistake, or an enumeration's member that an old driver does not know.
  INVALID_ARGUMENT: "permanent",
  NOT_SUPPORTED: "permanent",
  NO_PERMISSION: "denied",
  ALREADY_INITIALIZED: "none",
  NOT_FOUND: "empty",
  INSUFFICIENT_SIZE: "grow",
  INSUFFICIENT_POWER: "transient",
  DRIVER_NOT_LOADED: "driver",
  TIMEOUT: "empty",
  IRQ_ISSUE: "transient",
  LIBRARY_NOT_FOUND: "permanent",
  FUNCTION_NOT_FOUND: "permanent",
  // Values come all the same.
  CORRUPTED_INFOROM: "transient",
  GPU_IS_LOST: "lost",
  RESET_REQUIRED: "lost",
  // Device files that the container's rules forbid: they may come back.
  OPERATING_SYSTEM: "transient",
  LIB_RM_VERSION_MISMATCH: "mismatch",
  IN_USE: "transient",
  MEMORY: "transient",
  NO_DATA: "transient",
  VGPU_ECC_NOT_SUPPORTED: "permanent",
  INSUFFICIENT_RESOURCES: "transient",
  FREQ_NOT_SUPPORTED: "transient",
  ARGUMENT_VERSION_MISMATCH: "version",
  DEPRECATED: "permanent",
  NOT_READY: "transient",
  GPU_NOT_FOUND: "lost",
  INVALID_STATE: "transient",
  RESET_TYPE_NOT_SUPPORTED: "transient",
  // Thrice in a row: restart. In a container it says that the device files are gone.
  UNKNOWN: "transient",
};

const nameByCode = new Map(Object.entries(Code).map(([name, code]) => [code as number, name as CodeName]));

/** NVML's name for it; a code that is none of these as its number, since newer libraries have newer codes. */
export const codeName = (code: number): string => nameByCode.get(code) ?? `code ${code}`;

/** A code nobody knows yet may go away again. */
export function actionOf(code: number): CodeAction {
  const name = nameByCode.get(code);
  return name === undefined ? "transient" : actions[name];
}
