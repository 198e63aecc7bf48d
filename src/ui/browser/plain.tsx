/** Pages without data: sign-in, errors. */
import "./frame.ts";

const next = document.getElementById("continue") as HTMLAnchorElement | null;
if (next) location.replace(next.href);
