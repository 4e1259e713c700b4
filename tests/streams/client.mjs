// A WebSocket client on ws: says everything that there is to be said to a service that sends it back.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const [url, token, compressed] = process.argv.slice(2);
const socket = new WebSocket(url, ["other", "chat"], {
  headers: { authorization: `Bearer ${token}` },
  perMessageDeflate: compressed === "compressed" ? { threshold: 0 } : false,
  maxPayload: 64 << 20,
});
await once(socket, "open");
assert.equal(socket.protocol, "chat");
assert.equal(socket.extensions.includes("permessage-deflate"), compressed === "compressed");

const hash = (data) => createHash("sha256").update(data).digest("hex");
async function back(send) {
  const answer = once(socket, "message");
  send();
  const [data, isBinary] = await answer;
  return { data, isBinary };
}

const text = await back(() => socket.send("grüß dich"));
assert.equal(text.data.toString(), "grüß dich");
assert.equal(text.isBinary, false);
assert.equal((await back(() => socket.send(Buffer.alloc(0)))).data.length, 0);
for (const length of [1, 125, 126, 65535, 65536, 10 << 20]) {
  const sent = randomBytes(length);
  const { data, isBinary } = await back(() => socket.send(sent));
  assert.equal(isBinary, true);
  assert.equal(hash(data), hash(sent), `${length} bytes`);
}
const parts = await back(() => {
  for (const part of ["one ", "two ", "three "]) socket.send(part, { fin: false });
  socket.ping("between fragments");
  socket.send("four", { fin: true });
});
assert.equal(parts.data.toString(), "one two three four");
const pong = once(socket, "pong");
socket.ping("are you there?");
assert.equal((await pong)[0].toString().length > 0, true);
// Many at once, in order.
let seen = 0;
const all = new Promise((resolve) => {
  socket.on("message", (data) => {
    assert.equal(data.toString(), `message ${seen}`);
    if (++seen === 5000) resolve();
  });
});
for (let at = 0; at < 5000; at++) socket.send(`message ${at}`);
await all;
const closed = once(socket, "close");
socket.close(4001, "enough");
assert.equal((await closed)[0], 4001);
console.log("ok");
