import type { Http } from "../http.ts";
import { Refusal } from "../ports.ts";
import type { Configs } from "./configs.ts";
import { writePost, type Post } from "./logs.ts";

/** Posts lines to where the platform takes them in. Only 200 says that it has them. */
export function createPoster(
  configs: Configs,
  httpOf: (url: string) => Http,
): (post: Post, signal: AbortSignal) => Promise<void> {
  let known: { url: string; http: Http } | undefined;
  return async (post, signal) => {
    const { logs: url } = await configs.get(signal);
    if (known?.url !== url) known = { url, http: httpOf(url) };
    const { status } = await known.http.request({
      method: "POST",
      path: "",
      headers: { "content-type": "application/json" },
      body: new TextEncoder().encode(writePost(post)),
      signal,
    });
    if (status !== 200)
      throw new Refusal(502, String(status), `The platform answered ${status} to a post of lines.`);
  };
}
