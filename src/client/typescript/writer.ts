import { randomInt, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { readBootId, readProcessStart } from "../../run/machine.ts";
import type { Writer } from "../../run/schema.ts";

/** 15 digits, the first not zero: also a number for those who want one. */
export const newRunId = () => `${randomInt(1, 10)}${String(randomInt(0, 1e14)).padStart(14, "0")}`;

/** This process as a writer, under an id of its own: its batches are numbered from 1. */
export function createWriter(role: Writer["role"], rank: number): Writer {
  const boot = readBootId()?.slice(0, 64);
  const start = readProcessStart("self");
  return {
    client: randomUUID().replaceAll("-", ""),
    role,
    rank,
    device: hostname().slice(0, 255),
    pid: process.pid,
    ...(boot !== undefined && { boot }),
    ...(start !== undefined && { start }),
  };
}

/** Rank of this process in a distributed run; 0 otherwise. */
export function rankOf(env: Record<string, string | undefined>): number {
  for (const name of ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"]) {
    const text = env[name] ?? "";
    if (/^\d{1,6}$/.test(text)) return Number(text);
  }
  return 0;
}
