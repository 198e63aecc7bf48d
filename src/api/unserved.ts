import { CollectorError } from "../error.ts";
import { descriptionOf, type App } from "./route.ts";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/** Why no route has answered: there is nothing at this path, or nothing for this method. */
export function unserved(app: App, method: string, path: string): CollectorError {
  const allow = METHODS.filter((other) =>
    app.router.match(other, path)[0].some(([[handler]]) => descriptionOf(handler) !== undefined),
  );
  if (allow.length === 0)
    return new CollectorError("not-found", "There is nothing here.", { hint: "See /api/v1/openapi.json." });
  return new CollectorError("not-found", `There is no ${method} here.`, {
    hint: `Use ${allow.join(" or ")}; see /api/v1/openapi.json.`,
    details: { allow },
  });
}
