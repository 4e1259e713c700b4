// A page of another origin: what it may ask and read, and what it may not.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { person, run, world } from "./lib.mjs";

const page = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>an app</title>"));
await new Promise((resolve) => page.listen(world.page, "localhost", resolve));

await run(async (browser) => {
  const { page: tab } = await person(browser);
  await tab.goto(`http://localhost:${world.page}/`);
  /** Asks as a script of the page would, and says what it could read. */
  const ask = (path, options = {}) =>
    tab.evaluate(
      async ([url, options]) => {
        try {
          const answer = await fetch(url, options);
          return { status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers) };
        } catch (error) {
          return { failed: String(error) };
        }
      },
      [world.base + path, options],
    );
  const authorization = `Bearer ${world.token}`;

  // A field that needs a preflight, and a method that does.
  const got = await ask("/api/x", { headers: { authorization } });
  assert.equal(got.status, 200, JSON.stringify(got));
  assert.equal(got.headers["x-upstream"], "recorder", "exposed by the route");
  const put = await ask("/api/x", { method: "PUT", headers: { authorization, "content-type": "application/json" }, body: "{}" });
  assert.equal(put.status, 200, JSON.stringify(put));

  // A refusal is one that the page can read, with what to do about it.
  const refused = await ask("/api/x");
  assert.equal(refused.status, 401);
  assert.match(refused.headers["www-authenticate"], /^Bearer/);
  assert.equal(JSON.parse(refused.text).type, "urn:stepgate:problem:token-required");

  // What the route does not list is not asked, or not read.
  assert.ok((await ask("/api/x", { method: "DELETE", headers: { authorization } })).failed);
  assert.ok((await ask("/api/x", { headers: { authorization, "x-other": "1" } })).failed);
  assert.ok((await ask("/closed/x")).failed);
  assert.ok((await ask("/silent/x")).failed);
});
