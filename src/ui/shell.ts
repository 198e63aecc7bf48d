import { createContext } from "hono/jsx";
import type { Banner } from "./relay-view.ts";

/** What every page of one collector has, whatever it shows. */
export interface Shell {
  /** It is a platform. */
  hasSources: boolean;
  /** There are destinations, whose state may come to need a person. */
  hasRelays: boolean;
  banner: Banner | null;
}

/** Pages that come before sign-in, or in the place of one that failed, know nothing of the collector. */
export const ShellContext = createContext<Shell>({ hasSources: false, hasRelays: false, banner: null });
