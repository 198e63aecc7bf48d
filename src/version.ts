/** The one place that says it, beside package.json, which a test holds to it. */
export const VERSION = "0.1.0";
