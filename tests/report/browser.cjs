// Opens pages in Chromium with scripts allowed and prints what was seen, as JSON. One browser for all pages.
//
//   NODE_PATH=.../node_modules node browser.cjs CHROMIUM PAGE...            look at pages, run axe-core
//   NODE_PATH=.../node_modules node browser.cjs CHROMIUM --picture PAGE OUT take a picture at 1280 pixels
"use strict";

const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const VIEWS = [[1280, "light"], [1280, "dark"], [768, "light"], [390, "dark"]];

async function open(browser, file, width, colorScheme) {
  // The page's own policy would stop a script that got into it, and hide that it did.
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  const seen = { requests: [], dialogs: 0, errors: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("dialog", (dialog) => { seen.dialogs += 1; dialog.dismiss(); });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  await page.goto(`file://${file}`);
  return [page, seen];
}

async function look(browser, file) {
  const views = [];
  for (const [width, scheme] of VIEWS) {
    const [page, seen] = await open(browser, file, width, scheme);
    await page.keyboard.press("Tab");
    const first = await page.evaluate(() => document.activeElement.className);
    await page.keyboard.press("Enter");
    const focus = await page.evaluate(() => document.activeElement.id);
    const script = await page.evaluate(() => document.scripts.length);
    await page.evaluate(() => document.querySelectorAll("details.print").forEach((one) => { one.open = true; }));
    await page.addScriptTag({ path: require.resolve("axe-core/axe.min.js") });
    const found = await page.evaluate(() => axe.run());
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
    const hidden = await page.evaluate(() => [...document.querySelectorAll(".scroll")]
      .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute("aria-label")));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    const owned = await page.evaluate(() => window.owned === undefined ? null : String(window.owned));
    views.push({
      width, scheme, first, focus, script, overflow, hidden, owned, dialogs: seen.dialogs, errors: seen.errors,
      requests: seen.requests.filter((url) => url !== `file://${file}`),
      passes: found.passes.length,
      violations: found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 200)}`),
    });
    await page.close();
  }
  return views;
}

(async () => {
  const [executablePath, ...files] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  try {
    if (files[0] === "--picture") {
      const [page] = await open(browser, files[1], 1280, "light");
      await page.screenshot({ path: files[2], fullPage: true, clip: { x: 0, y: 0, width: 1280, height: Number(files[3] || 1000) } });
    } else {
      const seen = {};
      for (const file of files) seen[file] = await look(browser, file);
      process.stdout.write(JSON.stringify(seen));
    }
  } finally {
    await browser.close();
  }
})().catch((error) => { console.error(error); process.exit(1); });
