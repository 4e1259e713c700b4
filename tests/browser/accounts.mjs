// Accounts at the pages: made by mail, signed in, looked after, recovered; and an app that gets a code for its tokens.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { ask, button, call, heading, look, mailbox, pages, person, run, totp, world } from "./lib.mjs";

const mail = "anna@example.org";
const first = "ein kleines grünes Pferd";
const second = " noch ein grünes Pferd ";
const third = "und ein drittes Pferd";
const accounts = `${pages}/api/v1/accounts`;

const verifier = () => randomBytes(32).toString("base64url");
const challenge = (text) => createHash("sha256").update(text).digest("base64url");
const alert = (page, text) => page.getByRole("alert").getByText(text).waitFor();

/** What an app opens. */
function opened(code, more = {}) {
  const wanted = { return_to: `${world.app}/after`, state: "s t&ate", code_challenge: challenge(code), code_challenge_method: "S256" };
  return `${pages}/sign-in?${new URLSearchParams({ ...wanted, ...more })}`;
}

/** Redeems what the app got. */
async function redeem(code, code_verifier) {
  const headers = { "content-type": "application/json", "user-agent": "the app" };
  return ask(`${accounts}/sign-in/redeem`, { method: "POST", headers, body: JSON.stringify({ code, code_verifier }) });
}

async function signIn(page, name, password) {
  await page.getByLabel("Name or mail address").fill(name);
  await page.getByLabel("Password").fill(password);
  await button(page, "Sign in").click();
}

async function returned(page) {
  await page.waitForURL((url) => url.origin === world.app);
  const url = new URL(page.url());
  assert.equal(url.pathname, "/after");
  assert.equal(url.searchParams.get("state"), "s t&ate");
  return url.searchParams.get("stepgate_sign_in");
}

await run(async (browser) => {
  const box = await mailbox(world.mail);
  const { page, intact } = await person(browser);

  // Made by mail. An address that has an account is told the same, at the page.
  await page.goto(`${pages}/`);
  await heading(page, "Sign in");
  await look(page, "sign-in");
  for (const [id, autocomplete] of [["name", "username"], ["password", "current-password"]])
    assert.equal(await page.locator(`#${id}`).getAttribute("autocomplete"), autocomplete);
  await signIn(page, mail, first);
  await alert(page, "The name or the password is not right");
  assert.match(await page.title(), /^Problem: /);
  await page.getByRole("link", { name: "Make an account" }).click();
  await heading(page, "Make an account");
  await look(page, "register");
  assert.equal(await page.locator("#password").getAttribute("autocomplete"), "new-password");
  await page.getByLabel("Mail address").fill(mail);
  await page.getByLabel("Password").fill("zu kurz");
  await button(page, "Send the code").click();
  await alert(page, "The password is too short.");
  await page.getByLabel("Password").fill(first);
  await button(page, "Send the code").click();
  await heading(page, "Look at your mail");
  await look(page, "mail-code");
  assert.equal(await page.locator("#code").getAttribute("autocomplete"), "one-time-code");
  await page.getByLabel("Code from the mail").fill("AAAAA-AAAAA");
  await button(page, "Make the account").click();
  await alert(page, "That code is not right");
  await page.getByLabel("Code from the mail").fill(await box.code());
  await button(page, "Make the account").click();
  await heading(page, "Welcome");
  await look(page, "welcome");
  await page.goto(`${pages}/register`);
  await page.getByLabel("Mail address").fill(mail);
  await page.getByLabel("Password").fill(third);
  await button(page, "Send the code").click();
  await heading(page, "Look at your mail");
  await box.letter(/which has one already/);

  // Signed in: another number of the session, and the password is changed.
  await page.goto(`${pages}/sign-in`);
  const before = (await page.context().cookies())[0];
  await signIn(page, mail, first);
  await heading(page, "Your second factors");
  const after = (await page.context().cookies())[0];
  assert(before.httpOnly && before.secure && after.httpOnly && after.secure);
  assert.notEqual(after.value, before.value, "signing in gives the browser another number");
  await page.getByRole("link", { name: "Sessions" }).click();
  await heading(page, "Your sessions");
  await page.getByText("Nowhere at the moment").waitFor();
  await page.getByRole("link", { name: "Password" }).click();
  await heading(page, "Change your password");
  await look(page, "password");
  await page.getByLabel("Current password").fill(third);
  await page.getByLabel("New password").fill(second);
  await button(page, "Change it").click();
  await alert(page, "The name or the password is not right");
  await page.getByLabel("Current password").fill(first);
  await page.getByLabel("New password").fill(second);
  await button(page, "Change it").click();
  await page.getByRole("status").getByText("Your password was changed").waitFor();

  // A factor, and from then on nobody is let in without it.
  await page.getByRole("link", { name: "Factors" }).click();
  await page.getByRole("link", { name: "Add your first one" }).click();
  await button(page, /^Authenticator app/).click();
  await page.getByText("Type the key instead").click();
  const secret = (await page.locator("#secret").textContent()).trim();
  const step = Math.floor(Date.now() / 30_000);
  await page.getByLabel("Code").fill(totp(secret, step));
  await page.keyboard.press("Enter");
  await heading(page, "Your recovery codes");
  const codes = (await page.locator("#codes li").allTextContents()).map((code) => code.trim());
  await button(page, "Leave").click();
  await heading(page, "You are not signed in");
  await page.goto(`${pages}/sign-in`);
  await signIn(page, mail, second.trim());
  await alert(page, "The name or the password is not right");

  // An app, without any script: a code that only its verifier redeems, once.
  const other = await person(browser, { javaScriptEnabled: false });
  const one = verifier();
  await other.page.goto(opened(one));
  await other.page.getByText(new URL(world.app).origin, { exact: true }).waitFor();
  await signIn(other.page, mail, second);
  await heading(other.page, "Confirm that it is you");
  await other.page.getByLabel("Code from your authenticator app").fill("000000");
  await other.page.keyboard.press("Enter");
  await alert(other.page, "That was not accepted");
  await other.page.getByLabel("Code from your authenticator app").fill(totp(secret, step + 1));
  await other.page.keyboard.press("Enter");
  const stolen = await returned(other.page);
  assert.equal((await redeem(stolen, verifier())).status, 401, "another's verifier");
  assert.equal((await redeem(stolen, one)).status, 401, "and the code is used up by it");
  const two = verifier();
  await other.page.goto(opened(two));
  await signIn(other.page, mail, second);
  await other.page.getByText("Another way").click();
  await other.page.getByLabel("Recovery code").fill(codes[0]);
  await other.page.keyboard.press("Enter");
  const code = await returned(other.page);
  const got = await redeem(code, two);
  assert.equal(got.status, 200, got.text);
  const token = got.json().access_token;
  assert.equal(await call(token, "/plain"), 200);
  assert.equal((await redeem(code, two)).status, 401, "a code is good once");
  await other.page.goto(`${pages}/`);
  await heading(other.page, "Sign in");

  // Nobody is sent anywhere else, and no code goes to an app that bound it to nothing.
  for (const more of [
    { return_to: "https://evil.example/" },
    { code_challenge: "" },
    { code_challenge: "short" },
    { code_challenge_method: "plain" },
    { state: "x".repeat(513) },
  ]) {
    await other.page.goto(opened(one, more));
    await heading(other.page, "This link is not right");
  }

  // Another site's form signs nobody in.
  const cookie = `${after.name}=${"A".repeat(43)}`;
  const form = { "content-type": "application/x-www-form-urlencoded", cookie };
  const body = new URLSearchParams({ name: mail, password: second }).toString();
  for (const headers of [{ ...form, origin: "https://evil.example" }, { ...form, origin: world.base }, form]) {
    const answer = await ask(`${pages}/sign-in`, { method: "POST", headers, body });
    assert.equal(answer.status, 400);
    assert(!answer.headers["set-cookie"]);
  }

  // Sessions are seen, and ended at once.
  await page.goto(`${pages}/sign-in`);
  await signIn(page, mail, second);
  await heading(page, "Confirm that it is you");
  await look(page, "sign-in-factor");
  await page.getByText("Another way").click();
  await page.getByLabel("Recovery code").fill(codes[1]);
  await page.keyboard.press("Enter");
  await heading(page, "Your second factors");
  await page.getByRole("link", { name: "Sessions" }).click();
  await page.getByRole("heading", { name: "the app" }).waitFor();
  await look(page, "sessions");
  await button(page, /^End the session/).click();
  await page.getByText("Nowhere at the moment").waitFor();
  assert.equal(await call(token, "/plain"), 401);

  // Forgotten: the mail alone is not enough where there is a factor; then every session is over, this one too.
  await other.page.goto(`${pages}/sign-in`);
  await other.page.getByRole("link", { name: "Forgot your password?" }).click();
  await heading(other.page, "A new password");
  await other.page.getByLabel("Mail address").fill(mail);
  await button(other.page, "Send the code").click();
  await heading(other.page, "Look at your mail");
  await other.page.getByLabel("Code from the mail").fill(await box.code());
  await other.page.getByLabel("New password").fill(third);
  await button(other.page, "Change the password").click();
  await heading(other.page, "Confirm that it is you");
  await other.page.getByText("Another way").click();
  await other.page.getByLabel("Recovery code").fill(codes[2]);
  await other.page.keyboard.press("Enter");
  await heading(other.page, "Your password was changed");
  await page.goto(`${pages}/sessions`);
  await heading(page, "You are not signed in");
  await look(page, "not-signed-in");
  await page.goto(`${pages}/recover`);
  await look(page, "recover");
  await page.getByLabel("Mail address").fill("nobody@example.org");
  await button(page, "Send the code").click();
  await heading(page, "Look at your mail");
  await look(page, "recover-code");
  await page.goto(`${pages}/sign-in`);
  await signIn(page, mail, second);
  await alert(page, "The name or the password is not right");
  await signIn(page, mail, third);
  await heading(page, "Confirm that it is you");
  intact();
  other.intact();
  box.close();
});
