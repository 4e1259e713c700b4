// "This was not me": the page that a notice's link leads to, in a browser without a script, by keyboard, and with one.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { button, eventually, heading, look, origin, person, run, world } from "./lib.mjs";

const url = origin + world.link;

await run(async (browser) => {
  const { page, intact } = await person(browser);

  // It is asked for by nothing but its own style, and tells nobody where it is.
  const asked = [];
  page.on("request", (request) => asked.push(request));
  await page.goto(url);
  await heading(page, "A deletion was asked for");
  await page.getByText("Nothing is deleted yet.").waitFor();
  await page.getByText("Orders and messages").waitFor();
  await page.getByText("Invoices: tax law, ten years").waitFor();
  assert.equal(asked.filter((request) => !request.url().startsWith(origin)).length, 0);
  const referrers = await Promise.all(asked.map(async (request) => (await request.allHeaders()).referer ?? ""));
  assert.deepEqual(referrers.filter((referrer) => referrer !== ""), [], "the link is in no referrer");
  await look(page, "deletion-link");

  // A wrong link is one page.
  const { pathname } = new URL(url);
  for (const wrong of [pathname, `${pathname}?token=${"0".repeat(64)}`, "/deletions/link/0?token=x"]) {
    const answer = await page.goto(origin + wrong);
    assert.equal(answer.status(), 404);
    await heading(page, "This link leads nowhere");
  }
  await look(page, "deletion-no-link");

  // Another site that was given the link cannot have the button pressed from within somebody's browser, nor frame it.
  const evil = createServer((_, answer) =>
    answer
      .setHeader("content-type", "text/html")
      .setHeader("referrer-policy", "no-referrer")
      .end(`<form method="post" action="${url}"><button>Win</button></form><iframe src="${url}"></iframe>`),
  );
  await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
  const other = await person(browser);
  await other.page.goto(`http://127.0.0.1:${evil.address().port}/`);
  assert.equal(await other.page.frames()[1].locator("h1").count(), 0);
  await button(other.page, "Win").click();
  await heading(other.page, "That did not come from this page");
  evil.close();

  // Fetched ahead it is only looked at.
  const ahead = await other.page.goto(url);
  assert.equal(ahead.headers()["cache-control"], "no-store");
  assert.match(ahead.headers()["content-security-policy"], /^default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/);
  await heading(other.page, "A deletion was asked for");

  // Without a script, by keyboard.
  const still = await person(browser, { javaScriptEnabled: false });
  await still.page.goto(url);
  const label = "This was not me: stop it";
  for (let presses = 0; ; presses += 1) {
    assert(presses < 10, "the button is reached by Tab");
    await still.page.keyboard.press("Tab");
    const focused = still.page.locator(":focus");
    if ((await focused.count()) && (await focused.textContent()).trim() === label) break;
  }
  await still.page.keyboard.press("Enter");
  await heading(still.page, "This deletion was cancelled");
  await still.page.getByRole("status").getByText("It was stopped").waitFor();

  // The page that was open all the while may say it once more.
  await page.goto(url);
  await heading(page, "This deletion was cancelled");
  assert.equal(await button(page, label).count(), 0);
  await look(page, "deletion-stopped");
  intact();
  still.intact();
  await eventually("the end", () => true);
});
