/** Older values of a device are no longer the present, ms. What is relayed comes ten seconds at a time, and has a way to go. */
export const freshMs = ({ source }: { source: string | null }): number => (source === null ? 10_000 : 40_000);
