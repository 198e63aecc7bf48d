/** What an Xid, the driver's number of an error, means. */
const names: Record<number, string> = {
  8: "the GPU stopped processing",
  13: "graphics engine exception, mostly a fault of the program",
  31: "memory page fault, mostly a fault of the program",
  32: "invalid push buffer",
  38: "driver firmware error",
  43: "the program was stopped after a fault of its own",
  45: "the program's work was removed, mostly after it was ended",
  48: "double-bit memory error",
  61: "internal microcontroller breakpoint",
  62: "internal microcontroller halt",
  63: "memory row remapped or page retired",
  64: "memory row could not be remapped",
  68: "video processor exception",
  69: "graphics engine class error",
  74: "NVLink error",
  79: "the GPU has fallen off the bus",
  92: "many single-bit memory errors",
  94: "memory error, contained to the program",
  95: "memory error, not contained: the GPU needs a reset",
  119: "the GPU's system processor does not answer",
  120: "error of the GPU's system processor",
  121: "chip-to-chip link error",
  140: "memory error that could not be recovered",
  143: "the GPU could not be initialised",
  154: "the GPU asks for a recovery",
};

/** "79: the GPU has fallen off the bus"; a number nobody has named stays a number. */
export const xidName = (xid: number): string => (names[xid] ? `${xid}: ${names[xid]}` : String(xid));
