// Drives the page in Chromium, and prints what it sees as JSON: node browser.js '{"address": ..., ...}'
"use strict";

const { chromium } = require("playwright-core");

const given = JSON.parse(process.argv[2]); // address, chromium, pictures: a folder or null, and see the two tests
const seen = { requests: [], problems: [], prompts: [], steps: {} };
const note = (name, value) => { seen.steps[name] = value; };

async function main() {
  const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, deviceScaleFactor: given.scale });
  context.on("request", (request) => seen.requests.push(request.url()));
  context.setDefaultTimeout(300_000); // a busy machine decodes the large image in minutes
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.problems.push(error.message));
  page.on("console", (line) => /Content.Security/.test(line.text()) && seen.problems.push(line.text()));
  page.on("request", (request) => {
    if (request.url().endsWith("/predict")) seen.prompts.push(JSON.parse(request.postData()));
  });
  await page.goto(given.address);
  await ready(page);
  note("images", await page.locator("#images option").allTextContents());
  const each = [clicks, zoomed, undone, compared, allAndCorrected, switched, uploads, saved, refused, strangers];
  for (const scenario of given.objects ? [corrected] : each) await scenario(page, context);
  await browser.close();
}

// Waits until no action runs.
async function ready(page) {
  await page.waitForFunction(() => document.body.ariaBusy === null && document.getElementById("images").value !== "");
}

const status = (page) => page.textContent("#status");
const count = async (page) => Number(await page.textContent("#count"));

async function act(page, action) {
  await action();
  await page.waitForTimeout(20); // the handler starts the action
  await ready(page);
}

// The place on the screen of a place in an image that fills the canvas. size: [width, height]
async function place(page, size, [x, y]) {
  const box = await page.locator("#canvas").boundingBox();
  const scale = Math.min(box.width / size[0], box.height / size[1]);
  return [box.x + (box.width - size[0] * scale) / 2 + x * scale, box.y + (box.height - size[1] * scale) / 2 + y * scale];
}

async function drag(page, from, to, options) {
  await page.mouse.move(...from);
  await page.mouse.down(options);
  await page.mouse.move((from[0] + to[0]) / 2, (from[1] + to[1]) / 2);
  await page.mouse.move(...to);
  await page.mouse.up(options);
}

const box = async (page, corners) => {
  const [from, to] = [await place(page, given.size, corners.slice(0, 2)), await place(page, given.size, corners.slice(2))];
  await act(page, () => drag(page, from, to));
};

const click = async (page, at, options) => act(page, async () => page.mouse.click(...(await place(page, given.size, at)), options));

async function key(page, name) {
  await act(page, () => page.keyboard.press(name));
}

const lastPrompt = () => { const { box, points, labels } = seen.prompts.at(-1); return { box, points, labels }; };

async function clicks(page) {
  await box(page, [4, 5, 21, 19]);
  note("box", lastPrompt());
  note("box scores", await page.textContent("#scores"));
  await click(page, [12, 12]);
  await page.keyboard.down("Shift");
  await click(page, [30, 40]);
  await page.keyboard.up("Shift");
  await click(page, [2, 3], { button: "right" });
  note("clicks", lastPrompt());
  await key(page, "Escape");
  note("cleared", [await page.textContent("#scores"), await page.isDisabled("#keep")]);
}

// The place under the pointer stays there when it zooms, and moves with it when the image is moved.
async function zoomed(page) {
  const at = await place(page, given.size, [40, 20]);
  await page.mouse.move(...at);
  await page.mouse.wheel(0, -900);
  await act(page, () => page.mouse.click(...at));
  note("zoomed", lastPrompt());
  await page.keyboard.down("Space");
  await drag(page, at, [at[0] + 60, at[1] - 40]);
  await page.keyboard.up("Space");
  await act(page, () => page.mouse.click(at[0] + 60, at[1] - 40));
  await drag(page, at, [at[0] - 30, at[1] + 10], { button: "middle" });
  await act(page, () => page.mouse.click(at[0] + 30, at[1] - 30));
  note("moved", lastPrompt());
  await key(page, "Escape");
  await key(page, "0");
  await click(page, [40, 20]);
  note("fitted", lastPrompt());
  await key(page, "Escape");
}

async function undone(page) {
  const before = await page.isDisabled("#undo");
  await box(page, [4, 5, 21, 19]);
  await key(page, "Enter");
  const kept = await count(page);
  await key(page, "Control+z");
  const undone = [await count(page), await page.textContent("#scores")];
  await page.click("#keep");
  await ready(page);
  note("undone", { before, kept, undone, again: await count(page) });
  // Enter directly after the box: the mask is kept once it is there.
  const from = await place(page, given.size, [24, 4]), to = await place(page, given.size, [42, 20]);
  await drag(page, from, to);
  await key(page, "Enter");
  await page.waitForFunction(() => document.getElementById("count").textContent === "2");
  note("at once", await count(page));
}

async function compared(page) {
  await key(page, "z");
  const asked = seen.prompts.length;
  await box(page, [4, 5, 21, 19]);
  note("compared", [seen.prompts.slice(asked).map((one) => one.model), await page.textContent("#scores")]);
  await picture(page, "compared");
  await key(page, "z");
  await key(page, "Escape");
}

async function allAndCorrected(page) {
  const own = await count(page);
  await key(page, "a");
  const found = await count(page);
  await key(page, "a");
  note("all", { own, found, twice: await count(page), text: await status(page) });
  // The first of the list: point at a pixel of it, by the list's own button, and by the key.
  await page.locator("#objects li button").first().click();
  await ready(page);
  const corrected = await count(page);
  await click(page, [13, 13]);
  const prompt = lastPrompt();
  await key(page, "Enter");
  const kept = await count(page);
  await page.mouse.move(...(await place(page, given.size, [13, 13])));
  await key(page, "Delete");
  const removed = await count(page);
  await page.locator("#objects li button:last-child").first().click();
  note("corrected", { corrected, prompt, kept, removed, crossed: await count(page) });
}

async function switched(page) {
  const own = await count(page);
  await key(page, "n");
  const next = [await page.inputValue("#images"), await count(page)];
  await key(page, "p");
  note("switched", { own, next, back: [await page.inputValue("#images"), await count(page)] });
}

async function uploads(page) {
  for (const [name, path] of Object.entries(given.files)) {
    await act(page, () => page.setInputFiles("#file", path));
    const error = await page.locator("#status.error").count();
    note(name, { text: await status(page), error: error === 1, open: await page.inputValue("#images") });
    if (name === "large") {
      await act(page, () => page.click("#canvas"));
      note("click in large", [lastPrompt(), await page.locator("#status.error").count()]);
      const loaded = page.waitForResponse((reply) => reply.url().includes("&left="));
      await page.mouse.wheel(0, -1200);
      note("detail of large", [(await loaded).status(), new URL((await loaded).url()).search]);
      await key(page, "Escape");
    }
  }
}

async function saved(page) {
  for (const name of given.correct) {
    await act(page, () => page.selectOption("#images", name));
    while ((await count(page)) > 0) await page.locator("#objects li button:last-child").first().click();
    for (const corners of given.boxes) {
      await box(page, corners);
      await key(page, "Enter");
    }
    await key(page, "s");
    note("saved", await status(page));
    await act(page, () => page.click("#train"));
    note("trained", [await status(page), await page.textContent("#command")]);
  }
  await page.locator("body").focus();
  await page.waitForTimeout(300);
  await picture(page, "wide");
  await page.setViewportSize({ width: 400, height: 800 });
  await page.waitForTimeout(300);
  await picture(page, "narrow");
  note("narrow overflow", await page.evaluate(() => document.documentElement.scrollWidth));
  await page.setViewportSize({ width: 1280, height: 800 });
}

// A box around each object of an image; the mask of the first object is then corrected by a click on the background.
async function corrected(page) {
  for (const [name, { boxes, background }] of Object.entries(given.objects)) {
    await act(page, () => page.selectOption("#images", name));
    for (const corners of boxes) {
      await box(page, corners);
      await key(page, "Enter");
    }
    const kept = await count(page);
    await page.locator("#objects li button").first().click();
    await ready(page);
    const opened = await count(page);
    await click(page, background, { button: "right" });
    const prompt = lastPrompt();
    await key(page, "Enter");
    const again = await count(page);
    await key(page, "t");
    note(name, { kept, opened, prompt, again, text: await status(page), command: await page.textContent("#command") });
  }
  await picture(page, "corrected");
}

async function picture(page, name) {
  if (given.pictures) await page.screenshot({ path: `${given.pictures}/${name}.png` });
}

// Requests that the page itself never makes.
async function refused(page) {
  const ask = (path) => page.evaluate(async (to) => { const reply = await fetch(to); return [reply.status, await reply.text()]; }, path);
  note("outside", await ask("size?image=../secret.png"));
  note("outside picture", await ask(`picture?image=${encodeURIComponent("/etc/passwd")}`));
  note("no file", await ask("..%2fserver.py"));
  note("alive", await ask("settings"));
}

// Pages of other people, in the same browser.
async function strangers(page, context) {
  const other = await context.newPage();
  const wrong = given.address.replace(/.\/$/, (end) => (end === "A/" ? "B/" : "A/"));
  note("wrong token", [(await other.goto(wrong)).status(), await other.textContent("body")]);
  await other.goto("data:text/html,<p>another page</p>");
  note("foreign", await other.evaluate(async (address) => {
    const body = JSON.stringify({ image: "a.png" });
    const read = async (options) => fetch(`${address}all`, options).then((reply) => reply.type, (error) => error.name);
    return [await read({ method: "POST", body }), await read({ method: "POST", body, mode: "no-cors" })];
  }, given.address));
  await other.setContent(`<iframe src="${given.address}"></iframe>`);
  await other.waitForTimeout(300);
  note("framed", await other.frames()[1].evaluate(() => document.getElementById("canvas") !== null).catch(() => false));
  await other.close();
}

main().then(() => console.log(JSON.stringify(seen))).catch((error) => {
  console.log(JSON.stringify(seen));
  console.error(error);
  process.exit(1);
});
