// A WebSocket service on ws: it sends back what it gets, and says on standard output how each connection ended.
import { WebSocketServer } from "ws";

const options = { host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 1024 }, maxPayload: 64 << 20 };
const server = new WebSocketServer({ ...options, handleProtocols: (offered) => (offered.has("chat") ? "chat" : false) });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("close", (code, reason) => console.log(`closed ${code} ${reason}`));
});
server.on("listening", () => console.log(`ready ${server.address().port}`));
process.stdin.on("close", () => process.exit(0)).resume();
