// What other sites, other people and old numbers must not be able to do.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { api, ask, authenticator, button, heading, invitation, link, pages, person, run, world } from "./lib.mjs";

const { alice, bob } = world.tokens;
const COOKIE = "__Host-stepgate";

/** Another site, with whatever page. */
async function site(html) {
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Enrols a passkey for somebody. */
async function enrol(page, token, subject) {
  await page.goto(await link(token, { purpose: "enrol", invitation: await invitation(subject) }));
  await button(page, /^Passkey/).click();
  await button(page, "Make a passkey").click();
  await heading(page, "Your recovery codes");
  await page.getByRole("link", { name: "I have kept them" }).click();
}

const session = async (context) => (await context.cookies()).find(({ name }) => name === COOKIE)?.value;

await run(async (browser) => {
  const anna = await person(browser);
  const device = await authenticator(anna.page);
  await enrol(anna.page, alice, "alice");

  // A ticket is used once, also by whoever is as quick as its owner.
  const ticket = await link(alice, { purpose: "manage" });
  const both = await Promise.all([1, 2, 3, 4].map(() => ask(ticket)));
  assert.equal(both.filter(({ headers }) => headers["set-cookie"]?.some((set) => set.startsWith(`${COOKIE}=`) && !set.startsWith(`${COOKIE}=;`))).length, 1);
  const mine = await session(anna.context);
  await anna.page.goto(ticket);
  await heading(anna.page, "Open this from your app");
  assert.equal(await session(anna.context), mine, "a ticket that is none ends nobody's session");

  // Fixation: a number that somebody else chose is none, and the number changes with what one may do.
  const chosen = "A".repeat(43);
  await anna.context.addCookies([{ name: COOKIE, value: chosen, url: world.base, secure: true, httpOnly: true }]);
  await anna.page.goto(await link(alice, { purpose: "manage" }));
  const first = await session(anna.context);
  assert.notEqual(first, chosen);
  await anna.page.getByRole("link", { name: "Remove" }).click();
  await button(anna.page, "Use your passkey").click();
  await heading(anna.page, /^Remove/);
  const second = await session(anna.context);
  assert.notEqual(second, first, "a proof gives the session another number");
  const stale = await ask(`${pages}/`, { headers: { cookie: `${COOKIE}=${first}` } });
  assert.equal(stale.status, 403, "and the old number is good for nothing");
  const live = await ask(`${pages}/`, { headers: { cookie: `${COOKIE}=${second}` } });
  assert.equal(live.status, 200);

  // Another site's form, with the factor's own address and even with its cookie sent along.
  const action = anna.page.url();
  const token = await anna.page.locator("main input[name=token]").inputValue();
  const evil = await site(`<form method="post" action="${action}"><button>Win</button></form>`);
  await anna.page.goto(evil.origin);
  await button(anna.page, "Win").click();
  await anna.page.waitForURL(action);
  assert.equal(await anna.page.getByRole("heading", { name: "Your second factors" }).count(), 0);
  const none = "A".repeat(43);
  for (const [headers, with_token] of [
    // The token is not the session's.
    [{ "sec-fetch-site": "same-origin", origin: world.base }, none],
    [{ "sec-fetch-site": "same-origin", origin: world.base }, ""],
    // It is, however it got out, but the browser says that another site's page sends it, or nothing.
    [{ "sec-fetch-site": "cross-site", origin: evil.origin }, token],
    [{ "sec-fetch-site": "same-site", origin: "https://app.localhost" }, token],
    [{ "sec-fetch-site": "cross-site" }, token],
    [{ origin: "null" }, token],
    [{ origin: evil.origin }, token],
    [{}, token],
  ]) {
    const forged = await ask(action, {
      method: "POST",
      headers: { ...headers, cookie: `${COOKIE}=${second}`, "content-type": "application/x-www-form-urlencoded" },
      body: `token=${with_token}`,
    });
    assert.equal(forged.status, 400, JSON.stringify(headers));
  }
  await anna.page.goto(await link(alice, { purpose: "manage" }));
  await anna.page.getByRole("heading", { name: "Passkey" }).waitFor();

  // Clickjacking: no page of ours is shown within another, and every answer says so.
  const frames = await site(`<iframe src="${pages}/"></iframe>`);
  const framed = await person(browser);
  await framed.page.goto(frames.origin);
  assert.equal(await framed.page.frames()[1].locator("h1").count(), 0);
  for (const path of ["/", "/open?ticket=x", "/step-up"]) {
    const { headers } = await ask(pages + path);
    assert.match(headers["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'.*base-uri 'none'/);
    assert.equal(headers["x-frame-options"], "DENY");
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["cross-origin-opener-policy"], "same-origin");
    assert.match(headers["permissions-policy"], /publickey-credentials-get=\(self\)/);
  }

  // Open redirection: back to listed origins alone, and from page to page of ours alone.
  for (const to of [
    "https://evil.example/",
    `${world.app}.evil.example/`,
    `${world.app}@evil.example/`,
    `${world.app.replace("http:", "https:")}/`,
    "//evil.example/",
    "/relative",
    "javascript:alert(1)",
    `${world.app}\\@evil.example/`,
    `${world.app}/#fragment`,
    `${world.app}:1/`,
  ]) {
    const { status } = await api(alice, "POST", "/page-links", { purpose: "manage", return_to: to });
    assert.equal(status, 400, to);
  }
  for (const then of ["https://evil.example/", "//evil.example", "/\\evil.example", "/../../evil", "/leave"]) {
    await anna.page.goto(await link(alice, { purpose: "manage" }));
    await anna.page.goto(`${pages}/prove?then=${encodeURIComponent(then)}`);
    await button(anna.page, "Use your passkey").click();
    await heading(anna.page, "Your second factors");
    assert.equal(new URL(anna.page.url()).origin, world.base);
  }

  // Ceremonies of one person are nothing to another, also with the right device at hand.
  await anna.page.goto(await link(alice, { purpose: "step_up", level: "strong" }));
  const ceremony = await anna.page.locator("form[data-passkey] input[name=ceremony]").inputValue();
  const options = await anna.page.locator("form[data-passkey]").getAttribute("data-options");
  const ben = await person(browser);
  await authenticator(ben.page);
  await enrol(ben.page, bob, "bob");
  await ben.page.goto(await link(bob, { purpose: "step_up", level: "strong" }));
  await ben.page.evaluate(
    ([ceremony]) => (document.querySelector("form[data-passkey] input[name=ceremony]").value = ceremony),
    [ceremony],
  );
  await button(ben.page, "Use your passkey").click();
  await ben.page.getByRole("alert").getByText("That was not accepted").waitFor();
  // Her challenge, answered by his device, within his session.
  await ben.page.goto(await link(bob, { purpose: "step_up", level: "strong" }));
  await ben.page.evaluate(
    ([options]) => {
      const form = document.querySelector("form[data-passkey]");
      const own = JSON.parse(form.dataset.options);
      form.dataset.options = JSON.stringify({ ...own, challenge: JSON.parse(options).challenge });
    },
    [options],
  );
  await button(ben.page, "Use your passkey").click();
  await ben.page.getByRole("alert").getByText("That was not accepted").waitFor();

  // A page of another origin gets no signature of the device at all.
  const phishing = await site("<button>Hi</button>");
  await anna.page.goto(phishing.origin.replace("127.0.0.1", "localhost"));
  const there = await anna.page.evaluate(async () => {
    const options = { challenge: new Uint8Array(32), rpId: "api.example", userVerification: "required" };
    return navigator.credentials.get({ publicKey: options }).then(() => "signed", (error) => error.name);
  });
  assert.equal(there, "SecurityError");
  // And one that it signs for another port of the same host is refused, since its origin is another.
  await anna.page.goto(await link(alice, { purpose: "step_up", level: "strong" }));
  const asked = await anna.page.locator("form[data-passkey]").getAttribute("data-options");
  const form = {};
  for (const field of await anna.page.locator("form[data-passkey] input[type=hidden]").all())
    form[await field.getAttribute("name")] = await field.inputValue();
  const script = `async (options) => {
    const bytes = (t) => Uint8Array.from(atob(t.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const o = { ...options, challenge: bytes(options.challenge), allowCredentials: options.allowCredentials.map((c) => ({ ...c, id: bytes(c.id) })) };
    const credential = await navigator.credentials.get({ publicKey: o });
    return JSON.stringify(credential.toJSON());
  }`;
  await anna.page.goto(phishing.origin.replace("127.0.0.1", "localhost"));
  form.credential = await anna.page.evaluate(`(${script})(${asked})`);
  const cookie = `${COOKIE}=${await session(anna.context)}`;
  const relayed = await ask(`${pages}/prove`, {
    method: "POST",
    headers: { cookie, origin: world.base, "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(form).toString(),
  });
  assert.equal(relayed.status, 403, "a signature for another origin");

  // A counter that goes back: the credential was copied.
  const [credential] = await device.credentials();
  await device.send("removeCredential", { credentialId: credential.credentialId });
  await device.send("addCredential", { credential: { ...credential, signCount: 0 } });
  await anna.page.goto(await link(alice, { purpose: "step_up", level: "strong" }));
  await button(anna.page, "Use your passkey").click();
  await anna.page.getByText("You need a second factor").or(anna.page.getByText("That was not accepted")).first().waitFor();
  await anna.page.goto(await link(alice, { purpose: "manage" }));
  await anna.page.getByText("Blocked").waitFor();

  anna.intact();
  ben.intact();
  for (const other of [evil, frames, phishing]) other.close();
});
