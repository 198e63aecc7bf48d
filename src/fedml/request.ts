import { readText } from "../body.ts";
import { parseFedmlJson } from "./json.ts";
import type { FedmlScope } from "./keys.ts";

/** One request to the edge: whose it is, and what it asks for. */
export interface FedmlCall {
  request: Request;
  scope: FedmlScope;
  /** What follows the scope's address, as it came: "/fedmlOpsServer/configs/fetch", "/s3/bucket/a%20key". No query. */
  path: string;
  /** The scope's address as the client reached it: "http://127.0.0.1:7070/fedml/<secret>". */
  base: string;
  /** When it came, ms since the epoch. */
  received: number;
  /** Lifts the time limit of the connection, for bodies that take long. */
  keepOpen(): void;
}

export type FedmlHandler = (call: FedmlCall) => Response | Promise<Response>;

/** The body of a call, which is a JSON object in all of them. */
export async function readCall({ request }: FedmlCall): Promise<Record<string, unknown>> {
  const text = await readText(request);
  const body = text === "" ? {} : parseFedmlJson(text);
  return typeof body === "object" && body !== null && !Array.isArray(body)
    ? (body as Record<string, unknown>)
    : {};
}

const HEADERS = { headers: { "content-type": "application/json" } };

/** The envelope of every answer. */
export const answer = (data: unknown): Response => answerText(JSON.stringify(data));

export const answerText = (data: string): Response =>
  new Response(`{"code":"SUCCESS","message":"","data":${data}}`, HEADERS);
