/** A world and a server to test with: no real time, no network, no browser. */
export { FakeEnv, FakeSocket, FakeStorage } from "./fake-env.ts";
export { FakeServer } from "./fake-server.ts";
