// Every page works without this script. It copies texts, keeps relative times current, and updates what a page shows.
"use strict";

const status = document.getElementById("status");
const root = document.documentElement;

// One polite region for everything that happens without a reload.
function say(text) {
  if (status && status.textContent !== text) status.textContent = text;
}

// ── copying ─────────────────────────────────────────────────────────────────
// Only a secure page, or one on this machine, may write to the clipboard; elsewhere there are no buttons.
if (navigator.clipboard) root.classList.add("can-copy");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    say(`Copied the ${button.textContent.trim().replace(/^Copy /, "")}.`);
  } catch {
    say("The browser did not allow copying.");
  }
});

// ── relative times ──────────────────────────────────────────────────────────
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function relative(element) {
  const seconds = (Date.now() - new Date(element.dateTime)) / 1000;
  if (Math.abs(seconds) < 2) return "now";
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each);
  const text = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[title]")) {
    const text = relative(element);
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

// ── menus of one action close with Escape ───────────────────────────────────
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// ── a box in the head of a list selects all rows ────────────────────────────
document.addEventListener("change", (event) => {
  const boxes = [...document.querySelectorAll("input[name=task]")];
  if (event.target.id === "select-all") for (const box of boxes) box.checked = event.target.checked;
  if (event.target.id === "select-all" || event.target.name === "task") {
    const count = boxes.filter((box) => box.checked).length;
    say(count ? `${count} selected.` : "None selected.");
  }
});

// ── live updates ────────────────────────────────────────────────────────────
// An event says that something changed; the page is fetched again, and cells of rows that it shows are replaced.
// No row is added or moved: new ones are announced with a link. What somebody uses is left alone until later.
const TYPES = ["task.submitted", "task.progressed", "task.in_doubt", "task.completed", "task.failed", "task.canceled",
  "task.expired", "artifact.stored"];
const PAUSE = 1000; // milliseconds between two updates
const live = document.body.dataset.live;
const button = document.getElementById("live");
let timer = 0, running = false, again = false, end = null;

const isPaused = () => localStorage.getItem("boomerang-paused") === "yes";

// Browsers open six connections to a service, for all tabs: one tab listens for all that are visible. The page of an
// unfinished task listens by itself, since the service then asks for its progress more often.
const shared = live === "all" && navigator.locks && window.BroadcastChannel ? new BroadcastChannel("boomerang") : null;
if (shared) shared.addEventListener("message", changed);

function listen() {
  const source = new EventSource(`/v1/events${live === "all" ? "" : `?${live}`}`);
  const tell = () => { changed(); if (shared) shared.postMessage("changed"); };
  for (const type of TYPES) source.addEventListener(type, tell);
  return source;
}

function connect() {
  if (end || document.hidden || isPaused()) return;
  if (!shared) {
    const source = listen();
    end = () => source.close();
    return;
  }
  const waiting = new AbortController();
  end = () => waiting.abort();
  navigator.locks.request("boomerang-events", { signal: waiting.signal }, () => new Promise((release) => {
    const source = listen();
    end = () => { source.close(); release(); };
  })).catch(() => {}); // aborted: another tab listens, and this one was hidden
}

function disconnect() {
  if (end) end();
  end = null;
}

function changed() {
  if (running) again = true;
  else if (!timer) timer = setTimeout(update, PAUSE);
}

async function update() {
  timer = 0;
  running = true;
  try {
    const response = await fetch(location.href, { headers: { "X-Live-Update": "1", Accept: "text/html" } });
    if (response.ok && !response.redirected && !isPaused()) show(await response.text());
  } catch {
    // the service is away; the next event comes when it is back
  }
  running = false;
  if (again) changed();
  again = false;
}

const inUse = (cell) => cell.contains(document.activeElement) || cell.querySelector("details[open]") ||
  [...cell.querySelectorAll("video")].some((video) => !video.paused || video.currentTime > 0);

function cells(page) {
  return new Map([...page.querySelectorAll("[data-cell]")].map((cell) => {
    const row = cell.closest("[data-row]");
    return [`${row ? row.dataset.row : ""} ${cell.dataset.cell}`, cell];
  }));
}

function withoutTimes(cell) {
  const copy = cell.cloneNode(true);
  for (const element of copy.querySelectorAll("time")) element.textContent = "";
  return copy.innerHTML;
}

function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = cells(page);
  for (const [key, cell] of cells(document)) {
    const found = fresh.get(key);
    if (!found || withoutTimes(found) === withoutTimes(cell)) continue;
    if (inUse(cell)) {
      setTimeout(changed, 3 * PAUSE);
      continue;
    }
    cell.replaceChildren(...found.childNodes);
    cell.classList.remove("flash");
    void cell.offsetWidth; // begins the animation again
    cell.classList.add("flash");
    if (cell.dataset.cell === "status") say(`${cell.dataset.name || "This task"}: ${cell.innerText.trim()}`);
  }
  announceNew(page);
}

function announceNew(page) {
  const known = new Set([...document.querySelectorAll("[data-row]")].map((row) => row.dataset.row));
  const count = [...page.querySelectorAll("[data-row]")].filter((row) => !known.has(row.dataset.row)).length;
  const link = document.getElementById("newer");
  if (!link || !count) return;
  link.textContent = `Show ${count} new`;
  link.href = location.pathname + location.search;
  link.hidden = false;
  say(`${count} new.`);
}

if (live && button && window.EventSource) {
  const draw = () => {
    button.setAttribute("aria-pressed", String(isPaused()));
    button.textContent = isPaused() ? "Updates paused" : "Pause updates";
  };
  button.hidden = false;
  draw();
  button.addEventListener("click", () => {
    localStorage.setItem("boomerang-paused", isPaused() ? "no" : "yes");
    draw();
    disconnect();
    if (!isPaused()) { connect(); changed(); }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else if (!isPaused()) { connect(); changed(); }
  });
  window.addEventListener("pagehide", disconnect);
  connect();
}

// ── an action on many tasks continues by itself ─────────────────────────────
const next = document.querySelector("form[data-continue]");
if (next) setTimeout(() => next.requestSubmit(), 300);
