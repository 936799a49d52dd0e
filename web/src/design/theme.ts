import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const KEY = "pulsetrail.theme";

/** The colours that are drawn into canvases; their values are in tokens.css. */
const NAMES = [
  "text",
  "muted",
  "line",
  "surface",
  "raised",
  "calm",
  "flow",
  "time",
  "flap",
  "client",
  "server",
  "network",
  "intermediary",
  "unknown",
] as const;

export type Color = (typeof NAMES)[number];

export interface Palette extends Readonly<Record<Color, string>> {
  readonly font: string;
  /** Pixels. */
  readonly rem: number;
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();
let palette: Palette | undefined;

function stored(): Theme | undefined {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : undefined;
  } catch {
    return undefined; // storage is forbidden: the system's choice counts
  }
}

function preferred(): Theme {
  return dark.matches ? "dark" : "light";
}

function apply(theme: Theme | undefined): void {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  palette = undefined;
  for (const listener of [...listeners]) listener();
}

/** Show the theme that was chosen here before, or the system's, and follow it. */
export function followTheme(): void {
  apply(stored());
  dark.addEventListener("change", () => apply(stored()));
  // The size of text goes with that of the window.
  window.addEventListener("resize", () => apply(stored()));
}

/** Choose a theme; the system's own choice is not kept, so that it is followed again. */
export function chooseTheme(theme: Theme): void {
  const choice = theme === preferred() ? undefined : theme;
  try {
    if (choice) localStorage.setItem(KEY, choice);
    else localStorage.removeItem(KEY);
  } catch {}
  apply(choice);
}

function current(): Theme {
  return (document.documentElement.dataset.theme as Theme | undefined) ?? preferred();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, current);
}

export function usePalette(): Palette {
  return useSyncExternalStore(subscribe, () => {
    palette ??= read();
    return palette;
  });
}

/** A custom property gives its text; the colour that it stands for shows in an element that has it. */
function read(): Palette {
  const probe = document.body.appendChild(document.createElement("span"));
  const colors = NAMES.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color] as const;
  });
  const font = getComputedStyle(probe).fontFamily;
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  probe.remove();
  return { ...(Object.fromEntries(colors) as Record<Color, string>), font, rem };
}
