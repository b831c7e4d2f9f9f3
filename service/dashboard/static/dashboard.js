// Every page works without this script. It copies texts, keeps relative times current, and updates what a page shows.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const status = document.getElementById("status");

function say(text) { // one polite region for everything that happens without a reload
  if (status && status.textContent !== text) status.textContent = text;
}

// ── copying, menus, selections, the current page in the navigation ─────────
// Only a secure page, or one on this machine, may write to the clipboard; elsewhere there are no buttons.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const copied = navigator.clipboard.writeText(button.dataset.copy);
  const name = button.textContent.trim().replace(/^Copy /, "");
  say(await copied.then(() => `Copied the ${name}.`, () => "The browser did not allow copying."));
});

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

document.addEventListener("change", ({ target }) => {
  const boxes = all("input[name=task]");
  if (target.id === "select-all") for (const box of boxes) box.checked = target.checked;
  if (target.id !== "select-all" && target.name !== "task") return;
  const count = boxes.filter((box) => box.checked).length;
  say(count ? `${count} selected.` : "None selected.");
});

const here = document.querySelector(".top nav [aria-current]");
if (here) here.closest("ul").scrollLeft = here.offsetLeft + here.offsetWidth - here.closest("ul").offsetWidth;

// ── relative times ──────────────────────────────────────────────────────────
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const served = document.querySelector("footer time");
const skew = served ? Date.now() - new Date(served.dateTime) : 0; // a wrong clock here, or a slow network

function relative(element) {
  const seconds = (Date.now() - skew - new Date(element.dateTime)) / 1000, length = Math.abs(seconds);
  if (length < 2) return "now";
  const [unit, size] = UNITS.find(([, each]) => length >= each);
  const text = `${Math.floor(length / size)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of all("time[title]")) {
    const text = relative(element);
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

// ── live updates ────────────────────────────────────────────────────────────
// An event says that something changed; the page is fetched again, and cells of rows that it shows are replaced.
// No row is added or moved: new ones are announced with a link. What somebody uses is left alone until later.
const TYPES = ["task.submitted", "task.progressed", "task.in_doubt", "task.completed", "task.failed", "task.canceled",
  "task.expired", "artifact.stored"];
const PAUSE = 1000; // milliseconds between two updates
const live = document.body.dataset.live, button = document.getElementById("live");
let timer = 0, running = false, again = false, lost = false, end = null;

const isPaused = () => localStorage.getItem("boomerang-paused") === "yes";

// Browsers open six connections to a service, for all tabs: one tab listens for all that are visible. The page of an
// unfinished task listens by itself, since the service then asks for its progress more often.
const shared = live === "all" && navigator.locks && window.BroadcastChannel ? new BroadcastChannel("boomerang") : null;
if (shared) shared.addEventListener("message", changed);

function listen() {
  const source = new EventSource(`/v1/events${live === "all" ? "" : `?${live}`}`);
  const tell = () => { changed(); if (shared) shared.postMessage("changed"); };
  for (const type of TYPES) source.addEventListener(type, tell);
  source.addEventListener("error", () => {
    lost = true; // a proxy that answers for a service that restarts ends the stream for good
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { disconnect(); connect(); }, 10 * PAUSE);
  });
  source.addEventListener("open", () => { if (lost) tell(); lost = false; });
  return source;
}

function connect() {
  if (end || document.hidden || isPaused()) return;
  const waiting = new AbortController();
  const hold = (release) => {
    const source = listen();
    end = () => { source.close(); release(); };
  };
  if (!shared) return hold(() => {});
  end = () => waiting.abort();
  navigator.locks.request("boomerang-events", { signal: waiting.signal }, () => new Promise(hold))
    .catch(() => {}); // aborted: another tab listens, and this one was hidden
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
    if (response.redirected) say("You are signed out: reload to sign in again.");
  } catch {
    // the service is away; the next event comes when it is back
  }
  running = false;
  if (again) changed();
  again = false;
}

const inUse = (cell) => cell.contains(document.activeElement) || cell.querySelector("details[open]") ||
  all("video", cell).some((video) => !video.paused || video.currentTime > 0);

const cells = (page) => new Map(all("[data-cell]", page).map((cell) =>
  [`${cell.closest("[data-row]")?.dataset.row ?? ""} ${cell.dataset.cell}`, cell]));

function withoutTimes(cell) {
  const copy = cell.cloneNode(true);
  for (const element of all("time", copy)) element.textContent = "";
  return copy.innerHTML;
}

function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html"), fresh = cells(page);
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
  const known = new Set(all("[data-row]").map((row) => row.dataset.row));
  const count = all("[data-row]", page).filter((row) => !known.has(row.dataset.row)).length;
  const link = document.getElementById("newer");
  if (!link || !count) return;
  Object.assign(link, { textContent: `Show ${count} new`, href: location.pathname + location.search, hidden: false });
  say(`${count} new.`);
}

if (live && button && window.EventSource) {
  const begin = () => { connect(); changed(); };
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
    if (!isPaused()) begin();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : isPaused() || begin()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", ({ persisted }) => { if (persisted && !isPaused()) begin(); }); // "back"
  connect();
}

// ── an action on many tasks continues by itself ─────────────────────────────
const next = document.querySelector("form[data-continue]");
if (next) setTimeout(() => next.requestSubmit(), 300);
