// From an invitation to an elevated request and back: passkeys, with every page on the way looked at.
import assert from "node:assert/strict";
import { api, authenticator, button, call, heading, invitation, link, look, person, run, world } from "./lib.mjs";

const { alice } = world.tokens;

await run(async (browser) => {
  const { context, page, intact } = await person(browser);
  const device = await authenticator(page);

  await page.goto(`${world.base}${world.path}/`);
  await heading(page, "Open this from your app");
  await look(page, "closed");

  assert.equal(await call(alice), 401, "the level is not met yet");

  // The first factor: an invitation, then a passkey.
  await page.goto(await link(alice, { purpose: "enrol" }));
  await heading(page, "Your invitation");
  await look(page, "invitation");
  await page.getByLabel("Invitation code").fill("not-an-invitation");
  await button(page, "Continue").click();
  await heading(page, "Add a second factor");
  await button(page, /^Passkey/).click();
  await page.getByRole("alert").getByText("This invitation is not one for you").waitFor();
  await page.getByLabel("Invitation code").fill(await invitation("alice"));
  await button(page, "Continue").click();
  await heading(page, "Add a second factor");
  await look(page, "add");
  const before = (await context.cookies()).find(({ name }) => name === "__Host-stepgate");
  assert(before.httpOnly && before.secure && before.sameSite === "Lax" && before.path === "/");
  await button(page, /^Passkey/).click();
  await heading(page, "Make a passkey");
  await look(page, "make-passkey");
  await button(page, "Make a passkey").click();
  await heading(page, "Your recovery codes");
  await look(page, "recovery-codes");
  const codes = await page.locator("#codes li").allTextContents();
  assert.equal(codes.length, 10);
  const made = await device.credentials();
  assert.equal(made.length, 1);
  assert.equal(made[0].rpId, "localhost");
  const after = (await context.cookies()).find(({ name }) => name === "__Host-stepgate");
  assert.notEqual(after.value, before.value, "the session has another number once there is a factor");
  await page.getByRole("link", { name: "I have kept them" }).click();
  await heading(page, "Your second factors");
  await page.getByRole("status").getByText("It was added.").waitFor();
  await look(page, "factors");

  // A step-up that ends in a code, which the app hands back.
  const back = `${world.app}/after?kept=1`;
  const level = "strong";
  await page.goto(await link(alice, { purpose: "step_up", level, return_to: back, state: "s t&ate" }));
  await heading(page, "Confirm that it is you");
  await page.getByText("app", { exact: true }).waitFor();
  await look(page, "step-up");
  await button(page, "Use your passkey").click();
  await page.waitForURL((url) => url.origin === world.app);
  const returned = new URL(page.url());
  assert.equal(returned.pathname, "/after");
  assert.equal(returned.searchParams.get("kept"), "1");
  assert.equal(returned.searchParams.get("state"), "s t&ate");
  assert.equal(returned.hash, "");
  const code = returned.searchParams.get("stepgate_code");
  assert.equal(await call(alice), 401, "a page alone elevates nothing");
  assert.notEqual((await api(world.tokens.alice2, "POST", "/elevations", { code })).status, 200, "another token of hers");
  assert.equal(await call(alice), 401);

  // Without return_to the code is shown.
  await page.goto(await link(alice, { purpose: "step_up", level }));
  await button(page, "Use your passkey").click();
  await heading(page, "Thank you");
  await look(page, "done");
  const shown = (await page.locator("#handover").textContent()).trim();
  const elevated = await api(alice, "POST", "/elevations", { code: shown });
  assert.equal(Math.floor(elevated.status / 100), 2, JSON.stringify(elevated));
  assert.equal(await call(alice), 200, "the same token passes");
  assert.equal(await call(world.tokens.alice2), 401, "and no other one");
  assert.notEqual(Math.floor((await api(alice, "POST", "/elevations", { code: shown })).status / 100), 2, "a code is once");

  // What is elevated is seen, and ended.
  await page.getByRole("link", { name: "Activity" }).click();
  await heading(page, "Activity");
  await look(page, "activity");
  await button(page, "End it now").click();
  await page.getByText("Nothing at the moment.").waitFor();
  assert.equal(await call(alice), 401, "it is over");

  // Renamed, new codes, a second key refused by the device that has one, removed.
  await page.getByRole("link", { name: "Factors" }).click();
  await page.getByRole("link", { name: "Rename" }).click();
  await heading(page, "Rename it");
  await look(page, "rename");
  await page.getByLabel("Name").fill("Blue key <b>");
  await button(page, "Save").click();
  await page.getByRole("heading", { name: "Blue key <b>" }).waitFor();
  await page.getByRole("link", { name: "Make new recovery codes" }).click();
  await look(page, "new-recovery-codes");
  await button(page, "Make new ones").click();
  await heading(page, "Your recovery codes");
  await page.getByRole("link", { name: "I have kept them" }).click();
  await page.getByRole("link", { name: "Add another one" }).click();
  await button(page, /^Passkey/).click();
  await button(page, "Make a passkey").click();
  await page.getByRole("alert").getByText("This device has a passkey for this account already.").waitFor();
  await page.getByRole("link", { name: "Factors" }).click();
  await page.getByRole("link", { name: "Remove" }).click();
  await heading(page, /^Remove/);
  await page.getByText("It is your last one").waitFor();
  await look(page, "remove");
  await button(page, "Remove it").click();
  await page.getByRole("link", { name: "Add your first one" }).waitFor();
  await look(page, "no-factors");
  await button(page, "Leave").click();
  await heading(page, "Open this from your app");
  intact();
});
