export {
  ConnectionBanner,
  type ConnectionBannerProps,
  Stale,
  StaleBadge,
  type StaleBadgeProps,
  type StaleComponentProps,
  type StaleProps,
} from "./components.tsx";
export {
  type Connection,
  ConnectionProvider,
  useClient,
  useConnection,
  useMessages,
  useResilientWebSocket,
  useRetryCountdown,
} from "./hooks.ts";
