// A page in Chromium as a stock client: a plain `new WebSocket`, each message printed as a line.
// usage: node page.mjs CHROMIUM ORIGIN PATH_AND_QUERY
// The page is one of the service itself, so that its origin is welcome.
import { chromium } from "playwright-core";

const [executablePath, origin, path] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
const page = await browser.newPage();
await page.exposeFunction("report", (line) => console.log(line));
await page.goto(`${origin}/healthz`);
await page.evaluate((url) => {
  const socket = new WebSocket(url, "pulsetrail.v1");
  socket.onmessage = ({ data }) => {
    if (JSON.parse(data).type === "heartbeat") socket.send('{"type":"pong"}');
    window.report(data);
  };
  socket.onclose = ({ code }) => window.report(JSON.stringify({ type: "closed", code }));
}, `${origin.replace("http", "ws")}${path}`);
process.stdin.on("end", async () => {
  await browser.close();
  process.exit(0);
});
process.stdin.resume();
