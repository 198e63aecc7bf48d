/** The line that says what a person must see to, on a page that stays open for days. */
import type { Banner } from "../relay-view.ts";
import { request } from "./http.ts";

const EVERY_MS = 15_000;

const place = document.getElementById("banner");

async function load(): Promise<void> {
  const { banner } = await request<{ banner: Banner | null }>("/ui/banner");
  const line = place!.querySelector("a")!;
  // Said once: a status that is written anew is read aloud anew.
  if (line.textContent !== (banner?.text ?? "")) line.textContent = banner?.text ?? "";
  line.title = banner?.text ?? "";
  line.hidden = banner === null;
}

if (place)
  setInterval(() => {
    if (!document.hidden) load().catch(() => {});
  }, EVERY_MS);
