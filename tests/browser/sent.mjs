// Codes that are sent, approvals on another device, and what becomes of them at the pages; and pages while nothing can be looked up.
import assert from "node:assert/strict";
import { ask, button, call, heading, hooks, invitation, link, look, mailbox, pages, person, run, totp, world } from "./lib.mjs";

const { alice, bob } = world.tokens;
const level = "strong";
const form = { "content-type": "application/x-www-form-urlencoded" };
const json = { "content-type": "application/json" };
const alert = (page, text) => page.getByRole("alert").getByText(text).waitFor();

/** Types a code that was sent. */
async function type(page, code) {
  await page.getByLabel("Code", { exact: true }).fill(code);
  await page.keyboard.press("Enter");
}

await run(async (browser) => {
  const box = await mailbox(world.mail);
  const messages = await hooks(world.hook);
  const mailed = async () => (await box.letter(/^([0-9A-Z-]{6,12})$/m))[1];
  const { page, context, intact } = await person(browser);

  // The first factor: codes by mail. A wrong one is refused.
  await page.goto(await link(alice, { purpose: "enrol", invitation: await invitation("alice") }));
  await page.getByRole("link", { name: /^Code by e-mail/ }).click();
  await heading(page, "Code by e-mail");
  await page.getByLabel("Mail address").fill("alice@example.org");
  await button(page, "Send a code").click();
  await heading(page, "Type the code that we sent");
  await look(page, "mailed");
  await type(page, "000000000");
  await alert(page, "That was not accepted");
  await type(page, await mailed());
  await heading(page, "Your recovery codes");
  const codes = (await page.locator("#codes li").allTextContents()).map((code) => code.trim());
  await page.getByRole("link", { name: "I have kept them" }).click();

  // By a code by mail, one by a webhook is added.
  await page.getByRole("link", { name: "Add another one" }).click();
  await heading(page, "Show one of your factors");
  await button(page, /^Code by e-mail/).click();
  await type(page, await mailed());
  await heading(page, "Add a second factor");
  await page.getByRole("link", { name: /^Code by message/ }).click();
  await page.getByLabel("Phone number or device").fill("+49 30 901820");
  await button(page, "Send a code").click();
  const { code, to } = await messages.next("code");
  assert.equal(to, "+49 30 901820");
  await type(page, code);
  await page.getByRole("status").getByText("It was added.").waitFor();

  // And approvals on another device, by the number that is shown.
  await page.getByRole("link", { name: "Add another one" }).click();
  await page.getByRole("link", { name: /^Approval on another device/ }).click();
  await page.getByLabel("Phone number or device").fill("device-1");
  await button(page, "Send a request").click();
  await heading(page, "Approve it on your other device");
  const number = (await page.locator(".number").textContent()).trim();
  const asked = await messages.next("push");
  assert(asked.numbers.includes(number) && asked.numbers.length === 3);
  assert(!asked.decide.includes(asked.token), "a path stands in logs");
  const device = await person(browser, { viewport: { width: 390, height: 700 } });
  await device.page.goto(asked.page);
  await heading(device.page, "Is this you?");
  await look(device.page, "push");
  await button(device.page, number).click();
  await heading(device.page, "Approved");
  await device.page.goto(asked.page);
  await heading(device.page, "Not accepted");
  await button(page, "I have approved it").click();
  await page.getByRole("status").getByText("It was added.").waitFor();

  // Another site's form decides nothing.
  const evil = await ask(asked.page, { method: "POST", headers: { ...form, origin: "https://evil.example" }, body: `number=${number}` });
  assert.equal(evil.status, 400);

  // `by_page`: the page itself elevates. Nobody answers, then somebody says no, then yes by the API.
  const back = `${world.app}/after`;
  const step = async () => {
    await page.goto(await link(alice, { purpose: "step_up", level, return_to: back, state: "s" }));
    await heading(page, "Confirm that it is you");
    await button(page, /^Approval on another device/).click();
    return { shown: (await page.locator(".number").textContent()).trim(), question: await messages.next("push") };
  };
  const refused = await step();
  await look(page, "approve");
  await button(page, "I have approved it").click();
  await heading(page, "Waiting for your other device");
  await look(page, "waiting");
  await device.page.goto(refused.question.page);
  await button(device.page, "It is not me").click();
  await heading(device.page, "Not approved");
  await button(page, "I have approved it").click();
  await alert(page, "That was not accepted");
  assert.equal(await call(alice), 401);
  const approved = await step();
  const { decide, token } = approved.question;
  const details = await ask(`${decide}/details`, { method: "POST", headers: json, body: JSON.stringify({ token }) });
  assert.deepEqual(details.json().numbers, approved.question.numbers);
  const body = JSON.stringify({ token, approve: true, number: approved.shown });
  assert.equal((await ask(decide, { method: "POST", headers: json, body })).status, 204);
  assert.equal((await ask(decide, { method: "POST", headers: json, body })).status, 403, "once");
  await button(page, "I have approved it").click();
  await page.waitForURL((url) => url.origin === world.app);
  const url = new URL(page.url());
  assert.equal(url.searchParams.get("stepgate_result"), "elevated");
  assert.equal(url.searchParams.get("state"), "s");
  assert.equal(await call(alice), 200, "the credential that asked for the page");

  // A grant: the page ends in the number of a challenge, which the token's holder exchanges.
  await page.goto(await link(alice, { purpose: "grant", level, return_to: back }));
  await button(page, /^Code by message/).click();
  await type(page, (await messages.next("code")).code);
  await page.waitForURL((url) => url.origin === world.app && url.searchParams.has("stepgate_challenge"));
  const challenge = new URL(page.url()).searchParams.get("stepgate_challenge");
  const exchange = (who) =>
    ask(`${pages}/token`, {
      method: "POST",
      headers: { ...form, authorization: `Bearer ${who}` },
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        requested_token_type: "urn:stepgate:params:oauth:token-type:grant",
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
        subject_token: who,
        challenge,
      }).toString(),
    });
  assert.equal((await exchange(bob)).status, 400, "another's");
  const granted = await exchange(alice);
  assert.equal(granted.status, 200, granted.text);
  assert.equal(granted.json().token_type, "N_A");
  assert.equal((await exchange(alice)).status, 400, "once");

  // A recovery code gives the right to a new factor.
  await page.goto(await link(alice, { purpose: "enrol" }));
  await heading(page, "Show one of your factors");
  await page.getByLabel("Recovery code").fill(codes[0]);
  await page.keyboard.press("Enter");
  await heading(page, "Add a second factor");
  await button(page, /^Authenticator app/).click();
  await page.getByText("Type the key instead").click();
  await type(page, totp((await page.locator("#secret").textContent()).trim()));
  await page.getByRole("status").getByText("It was added.").waitFor();
  intact();
  device.intact();
});
