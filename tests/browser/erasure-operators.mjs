// The operators' pages of deletions: signing in, searching, holding, releasing, approving, retrying, cancelling, the breaker.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { ask, button, heading, look, person, run, world } from "./lib.mjs";

const { pages, held, other, parked } = world;
const COOKIE = "stepgate-operator";

async function enter(page, name = "Olga Operator", token = world.admin_token) {
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Admin token").fill(token);
  await button(page, "Sign in").click();
}

/** Loads a page again and again until it shows something: what goes on behind takes its time. */
async function until(page, there) {
  for (let tries = 0; tries < 100; tries += 1) {
    if ((await there.count()) > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
    await page.reload();
  }
  assert.fail(`${there} never came`);
}

const good = (page, text) => page.getByRole("status").getByText(text).waitFor();

await run(async (browser) => {
  const { context, page, intact } = await person(browser);

  // Nobody gets in without the token.
  await page.goto(`${pages}/deletions/${held}`);
  await heading(page, "Sign in");
  await look(page, "operators-sign-in");
  await enter(page, "Olga Operator", "not-the-token");
  await page.getByRole("alert").getByText("That is not the token.").waitFor();
  assert.equal((await context.cookies()).length, 0);
  await enter(page);
  await heading(page, "Deletions");
  const [cookie] = await context.cookies();
  assert.deepEqual(
    [cookie.name, cookie.path, cookie.httpOnly, cookie.sameSite],
    [COOKIE, "/pages", true, "Strict"],
  );

  // The list, the breaker, and the search.
  await page.getByRole("heading", { name: "The breaker is tripped" }).waitFor();
  await page.getByRole("link", { name: "account, alice" }).waitFor();
  await look(page, "operators-deletions");
  await page.getByLabel("Person").first().fill("alice");
  await button(page, "Search").click();
  await page.getByRole("link", { name: "account, alice" }).waitFor();
  assert.equal(await page.getByRole("link", { name: /^account, / }).count(), 1);
  await page.getByRole("link", { name: "All of them" }).click();
  await page.getByLabel("Waits for").selectOption("breaker");
  await button(page, "Search").click();
  await page.getByRole("link", { name: "account, x3" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "account, alice" }).count(), 0);
  await button(page, "Reset the breaker").click();
  await good(page, "The breaker was reset.");
  assert.equal(await page.getByRole("heading", { name: "The breaker is tripped" }).count(), 0);

  // A legal hold, lifted; then it is cancelled.
  await page.getByRole("link", { name: "account, alice" }).click();
  await heading(page, "Deletion: account");
  await look(page, "operators-deletion");
  await page.getByLabel("Why is it put on hold?").fill("Court order <7>");
  await button(page, "Put it on hold").click();
  await good(page, "It is on hold.");
  await page.getByText("Court order <7>").waitFor();
  await button(page, "Lift it: legal").click();
  await good(page, "The hold was lifted.");
  await button(page, "Cancel it").click();
  await good(page, "It was cancelled.");
  // Loaded again it does nothing again; and what is over can be cancelled no more.
  await page.reload();
  assert.equal(await button(page, "Cancel it").count(), 0);

  // What another has cancelled meanwhile is said, not done.
  await page.goto(`${pages}/deletions/${other}`);
  await page.getByLabel("Why is it put on hold?").fill("x");
  const token = await page.locator("main input[name=token]").first().inputValue();
  const form = (headers, path = `/deletions/${other}/hold`) =>
    ask(pages + path, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", cookie: `${COOKIE}=${cookie.value}`, ...headers },
      body: new URLSearchParams({ token, reason: "from elsewhere" }).toString(),
    });
  // Another site's form, whatever of ours it has; and one without a session.
  const own = new URL(pages).origin;
  for (const headers of [
    {},
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site", origin: "http://127.0.0.1:1" },
    { origin: "null" },
    { origin: own, cookie: "" },
    { origin: own, host: "rebound.example" },
  ])
    assert.equal((await form(headers)).status, 400, JSON.stringify(headers));
  const evil = createServer((_, answer) =>
    answer.setHeader("content-type", "text/html").end(
      `<form method="post" action="${pages}/deletions/${other}/cancel"><input name="token" value="${token}"><button>Win</button></form>`,
    ),
  );
  await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
  const tab = await context.newPage();
  await tab.goto(`http://127.0.0.1:${evil.address().port}/`);
  await button(tab, "Win").click();
  await heading(tab, "That did not come from this page");
  await tab.close();
  evil.close();
  await page.reload();
  assert.equal(await page.getByText("from elsewhere").count(), 0);
  await button(page, "Cancel it").waitFor();
  await page.getByLabel("Why is it put on hold?").fill("Audit");
  await button(page, "Put it on hold").click();
  await good(page, "It is on hold.");

  // A second person approves; the step is refused, and is taken as done by a person in the end.
  await page.goto(`${pages}/deletions/${parked}`);
  await button(page, "Approve it").click();
  await good(page, "It was approved.");
  await until(page, page.getByText("step parked: account: refused, 403"));
  await page.goto(`${pages}/deletions?waits=parked`);
  await page.getByRole("link", { name: /^now, / }).click();
  await look(page, "operators-parked");
  await button(page, "Send it again: account").click();
  await good(page, "It is done again.");
  await page.getByText("step retried").waitFor();
  await until(page, button(page, "Take it as done: account"));
  await button(page, "Send it again: account").click();
  await until(page, page.getByText("Download the certificate"));
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download the certificate" }).click(),
  ]);
  assert.equal(download.suggestedFilename(), `deletion-${parked}.jws`);
  assert.match(readFileSync(await download.path(), "utf8").trim(), /^[\w-]+\.[\w-]+\.[\w-]+$/);
  await look(page, "operators-erased");
  intact();

  // Leaving ends the session here and there.
  await button(page, "Leave").click();
  await heading(page, "Sign in");
  const back = await ask(`${pages}/deletions`, { headers: { cookie: `${COOKIE}=${cookie.value}` } });
  assert.equal(back.status, 303);
});
