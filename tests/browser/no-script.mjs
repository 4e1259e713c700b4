// An authenticator app and recovery codes without any script, and nothing but the keyboard.
import assert from "node:assert/strict";
import { api, button, call, heading, invitation, link, person, run, totp, world } from "./lib.mjs";

const { alice } = world.tokens;
const level = "strong";

/** Presses Tab until something has the focus whose name begins so, then does something with it. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = page.locator(":focus");
    if ((await focused.count()) === 0) continue;
    const label = await focused.evaluate((e) => (e.labels?.[0] ?? e).textContent.trim());
    if (label.startsWith(name)) return;
  }
  assert.fail(`${name} is not reached by Tab`);
}

await run(async (browser) => {
  const { page, intact } = await person(browser, { javaScriptEnabled: false });

  await page.goto(await link(alice, { purpose: "enrol", invitation: await invitation("alice") }));
  await heading(page, "Add a second factor");
  await tabTo(page, "Authenticator app");
  await page.keyboard.press("Enter");
  await heading(page, "Set up your authenticator app");
  await page.getByRole("img", { name: /QR code/ }).waitFor();
  await tabTo(page, "Type the key instead");
  await page.keyboard.press("Enter");
  const secret = (await page.locator("#secret").textContent()).trim();
  const step = Math.floor(Date.now() / 30_000);
  await tabTo(page, "Code");
  await page.keyboard.type("000000");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("That was not accepted").waitFor();
  assert.match(await page.title(), /^Problem: /);
  await tabTo(page, "Code");
  await page.keyboard.type(totp(secret, step));
  await page.keyboard.press("Enter");
  await heading(page, "Your recovery codes");
  const codes = (await page.locator("#codes li").allTextContents()).map((code) => code.trim());
  await tabTo(page, "I have kept them");
  await page.keyboard.press("Enter");
  await heading(page, "Your second factors");

  // A code that was used confirms nothing; the next one does.
  await page.goto(await link(alice, { purpose: "step_up", level }));
  await heading(page, "Confirm that it is you");
  assert.equal(await button(page, "Use your passkey").count(), 0);
  assert.equal(await page.locator(":focus").getAttribute("id"), "code", "the field has the focus at once");
  await page.keyboard.type(totp(secret, step));
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("That was not accepted").waitFor();
  await tabTo(page, "Code from your authenticator app");
  await page.keyboard.type(totp(secret, step + 1));
  await page.keyboard.press("Enter");
  await heading(page, "Thank you");
  const code = (await page.locator("#handover").textContent()).trim();
  await api(alice, "POST", "/elevations", { code });
  assert.equal(await call(alice), 200);

  // A recovery code, for the right to change factors.
  await page.goto(await link(alice, { purpose: "manage" }));
  await tabTo(page, "Remove");
  await page.keyboard.press("Enter");
  await heading(page, "Show one of your factors");
  await tabTo(page, "Another way");
  await page.keyboard.press("Enter");
  await tabTo(page, "Recovery code");
  await page.keyboard.type(codes[0]);
  await page.keyboard.press("Enter");
  await heading(page, /^Remove/);
  intact();
});
