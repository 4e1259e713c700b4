// Server-sent events and WebSocket in a browser: over HTTP/1.1 or HTTP/2, as the listener offers.
import assert from "node:assert/strict";
import { origin, person, run, world } from "./lib.mjs";

await run(async (browser) => {
  const { page, intact } = await person(browser);
  await page.goto(`${origin}/page`);
  const spoken = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  assert.equal(spoken, world.spoken);

  // Each event is there before the next one is sent: what comes back is when it came.
  const events = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const seen = [];
        const source = new EventSource("/events");
        source.onerror = () => reject(new Error(`after ${seen.length} events`));
        source.onmessage = async ({ data }) => {
          seen.push(data);
          if (seen.length === 5) {
            source.close();
            resolve(seen);
          } else {
            await fetch(`/seen?${data}`, { method: "POST" });
          }
        };
      }),
  );
  assert.deepEqual(events, ["event 0", "event 1", "event 2", "event 3", "event 4"]);

  const talk = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}/talk`);
        const big = new Uint8Array(1 << 20).map((_, at) => at % 251);
        const seen = [];
        socket.binaryType = "arraybuffer";
        socket.onerror = () => reject(new Error("no WebSocket"));
        socket.onopen = () => {
          socket.send("hello");
          socket.send(big);
        };
        socket.onmessage = ({ data }) => {
          if (typeof data === "string") seen.push(data);
          else {
            seen.push(new Uint8Array(data).every((byte, at) => byte === at % 251) ? data.byteLength : "broken");
            socket.close(4002, "enough");
          }
        };
        socket.onclose = ({ code, wasClean }) => resolve({ seen, code, wasClean });
      }),
  );
  assert.deepEqual(talk, { seen: ["hello", 1 << 20], code: 4002, wasClean: true });

  // One that nothing moves on is closed by the gateway, and the page is told why.
  const idle = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const socket = new WebSocket(`wss://${location.host}/brief`);
        socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
      }),
  );
  assert.deepEqual(idle, { code: 1001, reason: "idle", wasClean: true });

  // A handshake that is refused opens nothing.
  const refused = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const socket = new WebSocket(`wss://${location.host}/closed`);
        socket.onclose = ({ code }) => resolve(code);
      }),
  );
  assert.equal(refused, 1006);
  intact();
});
