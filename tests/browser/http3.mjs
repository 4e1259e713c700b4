// A browser over HTTP/3: pages, requests of scripts, refusals, uploads; and that it was HTTP/3 indeed.
import assert from "node:assert/strict";
import { person, run, world } from "./lib.mjs";

await run(async (browser) => {
  const { page } = await person(browser);
  const answer = await page.goto(`${world.base}/open/page`);
  assert.equal(answer.status(), 200);
  const spoken = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  assert.equal(spoken, "h3");
  const seen = await page.evaluate(async () => {
    // An entry is made when the body has been read.
    const status = async (path, how) => {
      const answer = await fetch(path, how);
      await answer.text();
      return answer.status;
    };
    const refused = await status("/items/x");
    const upload = await status("/open/upload", { method: "POST", body: "x".repeat(3_000_000) });
    const many = await Promise.all(Array.from({ length: 50 }, (_, at) => status(`/open/${at}`)));
    const protocols = performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol);
    return { refused, upload, many, protocols };
  });
  assert.equal(seen.refused, 401);
  assert.equal(seen.upload, 200);
  assert.deepEqual(new Set(seen.many), new Set([200]));
  assert.deepEqual(new Set(seen.protocols), new Set(["h3"]));
});
