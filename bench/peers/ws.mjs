// npm `ws` as its documentation shows it: a broadcast is a loop over the clients. Prints the port that it listens on.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
  if (request.method !== "POST" || pathname !== "/burst") {
    response.writeHead(404).end();
    return;
  }
  await burst(Number(searchParams.get("count")), Number(searchParams.get("size")));
  response.writeHead(204).end();
});
const sockets = new WebSocketServer({ server, path: "/ws" });
sockets.on("connection", (client) => {
  client.on("error", () => client.terminate());
  client.on("message", () => {});
});

function message(size) {
  const head = `{"at":${process.hrtime.bigint() / 1000n},"fill":"`;
  return `${head}${"x".repeat(size - head.length - 2)}"}`;
}

async function burst(count, size) {
  for (let sent = 0; sent < count; sent++) {
    const text = message(size);
    for (const client of sockets.clients) {
      client.send(text);
    }
    await new Promise(setImmediate); // what the kernel did not take at once is written in between
  }
}

server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
