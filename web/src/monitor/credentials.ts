import type { ClientOptions } from "pulsetrail";

const KEY = "pulsetrail.token";

export interface Credentials {
  /** What the service asks for, as it was when it sent the page. */
  readonly mode: "none" | "ticket" | "jwt";
  readonly options: Pick<ClientOptions, "auth" | "getToken">;
  readonly token: () => string | undefined;
  /** Keep a bearer token for this tab, and no longer than that. */
  readonly give: (token: string) => void;
}

/** What the page needs in order to be let in: nothing, or a bearer token that somebody gives it. */
export function credentials(): Credentials {
  const said = document.documentElement.dataset.authMode;
  const mode = said === "ticket" || said === "jwt" ? said : "none";
  let given = mode === "none" ? undefined : stored();
  return {
    mode,
    options: mode === "none" ? {} : { auth: mode, getToken: () => given ?? "" },
    token: () => given,
    give(token) {
      given = token;
      try {
        sessionStorage.setItem(KEY, token);
      } catch {}
    },
  };
}

function stored(): string | undefined {
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined; // storage is forbidden: the token is asked for again after a reload
  }
}
