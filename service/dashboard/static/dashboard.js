// Every page works without this script. It copies texts, keeps relative times current, and updates what a page shows.
"use strict";

const status = document.getElementById("status");

// One polite region for everything that happens without a reload; the same text twice is said once.
function say(text) {
  if (status && status.textContent !== text) status.textContent = text;
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break; // only a secure page, or one on this machine, may write to the clipboard
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      say(`Copied: ${button.textContent.replace(/^Copy /, "")}`);
    } catch {
      say("The browser did not allow to copy.");
    }
  });
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function relative(element) {
  const seconds = (Date.now() - new Date(element.dateTime)) / 1000;
  if (Math.abs(seconds) < 2) return "now";
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) || UNITS[3];
  const text = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function tick() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[title]")) {
    const text = relative(element);
    if (element.textContent !== text) element.textContent = text;
  }
}
setInterval(tick, 5000);
