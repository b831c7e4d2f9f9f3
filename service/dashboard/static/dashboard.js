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

document.addEventListener("click", ({ target }) => {
  const copy = target.closest("button[data-copy]");
  if (!copy) return;
  const name = copy.textContent.trim().replace(/^Copy /, "");
  navigator.clipboard.writeText(copy.dataset.copy)
    .then(() => say(`Copied the ${name}.`), () => say("The browser did not allow copying."));
});

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

const selectAll = document.getElementById("select-all");
if (selectAll) selectAll.closest("label").hidden = false;

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
  const first = UNITS.findIndex(([, each]) => length >= each), [unit, size] = UNITS[first];
  const [next, part] = UNITS[first + 1] ?? UNITS[first], rest = Math.floor(length % size / part);
  const text = `${Math.floor(length / size)} ${unit}${first && rest ? ` ${rest} ${next}` : ""}`; // days are whole
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

setInterval(() => {
  for (const element of document.hidden ? [] : all("time[title]")) {
    const text = relative(element);
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

// ── live updates ────────────────────────────────────────────────────────────
// An event says that something changed; the page is fetched again, and cells of rows that it shows are replaced.
// No row is added or moved: new ones are announced with a link. What somebody uses is left alone until later.
const TYPES = ["task.submitted", "task.progressed", "task.in_doubt", "task.completed", "task.failed", "task.canceled",
  "task.expired", "artifact.stored"];
const PAUSE = 1000; // milliseconds before an update, for all that changes meanwhile
const live = document.body.dataset.live, button = document.getElementById("live");
let wanted = false, updating = false, lost = false, stop = new AbortController();

const isPaused = () => localStorage.getItem("boomerang-paused") === "yes";

// Browsers open six connections to a service, for all tabs: one tab listens for all that are visible. The page of an
// unfinished task listens by itself, since the service then asks for its progress more often.
const shared = live === "all" && navigator.locks && window.BroadcastChannel ? new BroadcastChannel("boomerang") : null;
if (shared) shared.addEventListener("message", changed);

function listen() {
  if (Number(live)) { // a page of what has no events, every so many seconds
    const timer = setInterval(changed, live * PAUSE);
    return { close: () => clearInterval(timer) };
  }
  const source = new EventSource(`/v1/events${live === "all" ? "" : `?${live}`}`);
  const tell = () => { changed(); if (shared) shared.postMessage("changed"); };
  for (const type of TYPES) source.addEventListener(type, tell);
  source.addEventListener("error", () => {
    lost = true; // a proxy that answers for a service that restarts ends the stream for good
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 10 * PAUSE);
  });
  source.addEventListener("open", () => { if (lost) tell(); lost = false; });
  return source;
}

function follow(event) { // the tab is shown or hidden, or somebody pressed the button, here or in another tab
  button.textContent = isPaused() ? "Resume updates" : "Pause updates";
  stop.abort();
  if (event?.type === "pagehide" || document.hidden || isPaused()) return;
  const { signal } = stop = new AbortController();
  const hold = () => new Promise((release) => {
    const source = listen();
    signal.addEventListener("abort", () => { source.close(); release(); });
  });
  if (shared) navigator.locks.request("boomerang-events", { signal }, hold).catch(() => {}); // stopped while it waited
  else hold();
  if (event) changed();
}

async function changed() {
  wanted = true;
  if (updating) return;
  updating = true;
  while (wanted) {
    await new Promise((done) => setTimeout(done, PAUSE));
    wanted = false;
    await update().catch(() => {}); // the service is away; the next event comes when it is back
  }
  updating = false;
}

async function update() {
  const response = await fetch(location.href, { headers: { "X-Live-Update": "1", Accept: "text/html" } });
  if (response.redirected) say("You are signed out: reload to sign in again.");
  else if (response.ok && !isPaused()) show(await response.text());
}

const inUse = (cell) => cell.contains(document.activeElement) || cell.querySelector("details[open]") ||
  (!getSelection().isCollapsed && getSelection().containsNode(cell, true)) ||
  all("video", cell).some((video) => !video.paused || video.currentTime > 0);

const cells = (page) => new Map(all("[data-cell]", page).map((cell) =>
  [`${cell.closest("[data-row]")?.dataset.row ?? ""} ${cell.dataset.cell}`, cell]));

// Without what changes by itself: the ages of times, and what somebody has opened.
const news = (cell) => cell.innerHTML.replace(/(<time[^>]*>)[^<]*|(<details[^>]*) open=""/g, "$1$2");

function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html"), fresh = cells(page);
  const pointed = document.querySelector("[data-row]:hover"), before = pointed?.getBoundingClientRect().top;
  for (const [key, cell] of cells(document)) {
    const found = fresh.get(key);
    if (!found || news(found) === news(cell)) continue;
    if (inUse(cell)) {
      if (!Number(live)) setTimeout(changed, 3 * PAUSE);
      continue;
    }
    found.classList.add("flash");
    cell.replaceWith(found);
    if (found.dataset.cell === "status") say(`${found.dataset.name || "This task"}: ${found.innerText.trim()}`);
  }
  if (pointed) window.scrollBy(0, pointed.getBoundingClientRect().top - before); // it stays under the pointer
  const known = new Set(all("[data-row]").map((row) => row.dataset.row));
  const count = all("[data-row]", page).filter((row) => !known.has(row.dataset.row)).length;
  const link = document.getElementById("newer");
  if (!link || !count) return;
  Object.assign(link, { textContent: `Show ${count} new`, href: location.pathname + location.search, hidden: false });
  say(`${count} new.`);
}

if (live && button && window.EventSource) {
  button.hidden = false;
  button.addEventListener("click", (event) => {
    localStorage.setItem("boomerang-paused", isPaused() ? "no" : "yes");
    follow(event);
  });
  document.addEventListener("visibilitychange", follow);
  for (const type of ["storage", "pagehide"]) window.addEventListener(type, follow);
  window.addEventListener("pageshow", (event) => { if (event.persisted) follow(event); }); // "back"
  follow();
}

// ── an action on many tasks continues by itself ─────────────────────────────
const next = document.querySelector("form[data-continue]");
if (next) setTimeout(() => next.requestSubmit(), 300);
