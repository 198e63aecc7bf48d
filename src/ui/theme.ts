/** Light, dark, or as the system has it. A cookie rather than local storage: the server renders the first paint with it. */
export type Theme = "auto" | "light" | "dark";

export const THEME_COOKIE = "binnacle_theme";

export const parseTheme = (text: string | undefined): Theme =>
  text === "light" || text === "dark" ? text : "auto";

export const nextTheme: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
