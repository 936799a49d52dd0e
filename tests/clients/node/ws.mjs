// npm `ws` as a stock client: connects, answers heartbeats, prints each message as a line.
// usage: node ws.mjs URL
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2], "pulsetrail.v1");
socket.on("message", (data) => {
  const message = JSON.parse(data);
  console.log(JSON.stringify(message));
  if (message.type === "heartbeat") {
    const now = Date.now();
    socket.send(JSON.stringify({ type: "pong", seq: message.seq, received: now, sent: now }));
  }
});
socket.on("close", (code) => {
  console.log(JSON.stringify({ type: "closed", code }));
  process.exit(0);
});
process.stdin.on("end", () => socket.close(1000));
process.stdin.resume();
