// What the scenarios share: a browser with a virtual authenticator, the gateway's API, and what every page must be.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createServer as createHook, request as http } from "node:http";
import { request as https } from "node:https";
import { createRequire } from "node:module";
import { createServer as createMail } from "node:net";
import { join } from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What the suite says: {base, path, admin, tokens, spki, shots, args}. */
export const world = JSON.parse(process.env.STEPGATE_WORLD);
export const origin = world.base;
export const pages = world.base + world.path;

const browsers = [
  "/usr/bin/chromium-headless-shell",
  "/usr/bin/chromium",
  "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Runs a scenario with a browser, and ends both. */
export async function run(scenario) {
  const executablePath = browsers.find(existsSync);
  assert(executablePath, "Chromium is not installed: run `./test setup`");
  const args = [`--ignore-certificate-errors-spki-list=${world.spki}`, ...(world.args ?? [])];
  // As root there is no sandbox to be had; what it shows is our own pages.
  if (process.getuid?.() === 0) args.push("--no-sandbox");
  const browser = await chromium.launch({ executablePath, args });
  let code = 0;
  try {
    await scenario(browser);
    console.log("ok");
  } catch (error) {
    console.error(error);
    code = 1;
  }
  await browser.close();
  // Servers that a scenario has opened are waited for by nobody.
  process.exit(code);
}

/** A person's browser: its page, and everything that broke the content security policy or failed in a script. */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 800 }, ...options });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const broken = [];
  page.on("console", (message) => {
    if (/content security policy|refused to|integrity/i.test(message.text())) broken.push(message.text());
  });
  page.on("pageerror", (error) => broken.push(String(error)));
  const intact = () => assert.deepEqual(broken, [], "the content security policy, and scripts");
  return { context, page, broken, intact };
}

/** A virtual authenticator (WebDriver's, W3C WebAuthn Level 3 §11.2) for a page. */
export async function authenticator(page, options = {}) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("WebAuthn.enable", { enableUI: false });
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
      ...options,
    },
  });
  const credentials = async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
  const send = (method, more) => cdp.send(`WebAuthn.${method}`, { authenticatorId, ...more });
  return { credentials, send };
}

let addresses = 0;

/** An HTTP request, each from another of the machine's own addresses: the gateway counts calls by address, and the browser is one. */
export function ask(url, { method = "GET", headers = {}, body } = {}) {
  const localAddress = `127.0.0.${2 + (addresses++ % 8)}`;
  return new Promise((resolve, reject) => {
    const sent = (url.startsWith("https:") ? https : http)(url, { method, headers, localAddress, family: 4 }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        const text = Buffer.concat(parts).toString();
        resolve({ status: answer.statusCode, headers: answer.headers, text, json: () => JSON.parse(text) });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** A call of the JSON API. */
export async function api(token, method, path, body) {
  const answer = await ask(`${pages}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body ? { "content-type": "application/json" } : {}) },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, json: answer.text ? answer.json() : null };
}

/** A link for a browser. */
export async function link(token, wanted) {
  const { status, json } = await api(token, "POST", "/page-links", wanted);
  assert.equal(status, 201, JSON.stringify(json));
  return json.url;
}

/** A call of the API behind the gateway. */
export async function call(token, path = "/strong") {
  return (await ask(origin + path, { headers: { authorization: `Bearer ${token}` } })).status;
}

/** An invitation of the operator's. */
export async function invitation(subject) {
  const answer = await ask(`${world.admin}/invitations`, {
    method: "POST",
    headers: { authorization: `Bearer ${world.admin_token}`, "content-type": "application/json" },
    body: JSON.stringify({ issuer: "main", subject, by: "help desk" }),
  });
  assert.equal(answer.status, 201, answer.text);
  return answer.json().code;
}

/** RFC 6238, for the secret that a page shows. */
export function totp(secret, step = Math.floor(Date.now() / 30_000)) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret.replace(/[\s=]/g, "")].map((c) => alphabet.indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac("sha1", key).update(counter).digest();
  const offset = mac[19] & 15;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** What every page must be, in light and dark, wide and narrow; and a picture of it where pictures are asked for. */
export async function look(page, name) {
  const size = page.viewportSize();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() =>
      globalThis.axe.run(document, {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      }),
    );
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map(({ target }) => target)})`);
    assert.deepEqual(found, [], `${name} in ${colorScheme}`);
    if (world.shots && name) {
      mkdirSync(world.shots, { recursive: true });
      await page.setViewportSize({ width: 640, height: 400 });
      await page.screenshot({ path: join(world.shots, `${world.shots_of ?? "authority"}-${name}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 320, height: 640 });
  const narrow = await page.evaluate(() => ({
    overflow: document.documentElement.scrollWidth - innerWidth,
    small: [...document.querySelectorAll("button, a.button, summary, input:not([type=hidden]), nav a")]
      .filter((target) => target.checkVisibility())
      .map((target) => [target.textContent || target.name, target.getBoundingClientRect()])
      .filter(([, box]) => box.height < 43.9 || box.width < 43.9)
      .map(([text, box]) => `${text}: ${box.width}×${box.height}`),
  }));
  assert(narrow.overflow <= 0, `${name} is ${narrow.overflow} px too wide`);
  assert.deepEqual(narrow.small, [], `${name}: targets of less than 44 px`);
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

export const button = (page, name) => page.getByRole("button", { name });
export const heading = (page, name) => page.getByRole("heading", { name, level: 1 }).waitFor();

/** Waits until something is there. */
export async function eventually(what, look) {
  for (let tries = 0; tries < 300; tries += 1) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return assert.fail(`${what} never came`);
}

/** A mail server that takes whatever comes. */
export async function mailbox(port) {
  const letters = [];
  const server = createMail((socket) => {
    let text = "";
    let letter = null;
    socket.on("error", () => {});
    socket.write("220 mail\r\n");
    socket.on("data", (part) => {
      text += part;
      for (let end = text.indexOf("\r\n"); end >= 0; end = text.indexOf("\r\n")) {
        const line = text.slice(0, end);
        text = text.slice(end + 2);
        if (letter !== null && line !== ".") letter += `${line}\n`;
        else if (letter !== null) {
          letters.push(letter.replace(/=\n/g, ""));
          letter = null;
          socket.write("250 kept\r\n");
        } else if (/^data$/i.test(line)) {
          letter = "";
          socket.write("354 go on\r\n");
        } else if (/^quit$/i.test(line)) socket.end("221 bye\r\n");
        else socket.write("250 mail\r\n");
      }
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  let read = 0;
  /** The next letter that has something in it. */
  const letter = (pattern) =>
    eventually(`a letter with ${pattern}`, () => {
      const found = letters.findIndex((text, at) => at >= read && pattern.test(text));
      if (found < 0) return null;
      read = found + 1;
      return letters[found].match(pattern);
    });
  return { letter, code: async () => (await letter(/[Cc]ode is:? ([0-9A-Z-]+)/))[1], close: () => server.close() };
}

/** A receiver of webhooks: the messages of a type, one after the other. */
export async function hooks(port) {
  const messages = [];
  const server = createHook((request, answer) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      messages.push(JSON.parse(Buffer.concat(parts)));
      answer.writeHead(204).end();
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const next = (type) =>
    eventually(`a message ${type}`, () => {
      const found = messages.findIndex((message) => message.type === type);
      return found < 0 ? null : messages.splice(found, 1)[0].data;
    });
  return { next, close: () => server.close() };
}
