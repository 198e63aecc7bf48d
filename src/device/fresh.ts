/**
 * Older values of a device are no longer the present, ms. What is relayed comes ten seconds at a time, and has a way to go; as does
 * what FedML's clients tell of their machines, of which they say no system.
 */
export const freshMs = ({ source, os }: { source: string | null; os: string }): number =>
  source === null && os !== "" ? 10_000 : 40_000;
