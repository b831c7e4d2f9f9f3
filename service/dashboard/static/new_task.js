// The form for a new task works without this script. It checks files before they are sent, takes files that are
// dropped beside the input, and shows the price of the chosen parameters.
"use strict";

const form = document.querySelector("[data-new-task]");
const MB = 1024 * 1024;
const amount = (bytes) => `${(bytes / MB).toFixed(1)} MB`;

function problem(group, input) {
  const { most, maxBytes, types } = group.dataset;
  const lines = group.querySelector("textarea").value.split("\n").filter((line) => line.trim()).length;
  const kept = group.querySelectorAll(".kept input:checked").length;
  const files = [...input.files];
  if (files.length + lines + kept > Number(most)) return `${files.length + lines + kept} are chosen: at most ${most} are allowed.`;
  for (const file of files) {
    if (types && file.type && !types.split(",").includes(file.type)) return `${file.name} is ${file.type}: choose one of ${types.replaceAll(",", ", ")}.`;
    if (maxBytes && file.size > Number(maxBytes)) return `${file.name} has ${amount(file.size)}: at most ${amount(Number(maxBytes))} are allowed.`;
  }
  const inputs = [...form.querySelectorAll("input[type=file]")];
  const total = inputs.flatMap((each) => [...each.files]).reduce((sum, file) => sum + file.size, 0);
  const limit = Number(form.dataset.maxBytes) * 0.74; // base64 takes a third more
  if (total > limit) return `All files together have ${amount(total)}: at most ${amount(limit)} fit into one request. Use addresses for large ones.`;
  return "";
}

function check() {
  for (const group of form.querySelectorAll("[data-media]")) {
    const input = group.querySelector("input[type=file]");
    const line = document.getElementById(`${input.name}-live`);
    const text = problem(group, input);
    input.setCustomValidity(text);
    line.hidden = !text;
    if (line.textContent !== text) line.textContent = text;
  }
}

function takeDropped(group) {
  const input = group.querySelector("input[type=file]");
  group.addEventListener("dragover", (event) => { event.preventDefault(); input.classList.add("over"); });
  group.addEventListener("dragleave", () => input.classList.remove("over"));
  group.addEventListener("drop", (event) => {
    input.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    const all = new DataTransfer(); // those that were chosen before stay
    for (const file of [...input.files, ...event.dataTransfer.files]) all.items.add(file);
    input.files = all.files;
    check();
  });
}

function value(name) {
  const field = form.elements[name];
  if (!field) return "";
  if (field.type === "checkbox") return field.checked ? name : "";
  const group = document.getElementById(`${name}-files`); // of media only their presence counts
  if (group) return group.files.length || field.value.trim() ? name : "";
  return field.value;
}

function showPrice() {
  const table = form.querySelector("[data-price-by]"), line = form.querySelector("[data-price]");
  if (!table) return;
  const parts = table.dataset.priceBy.split(" ").map(value).filter(Boolean);
  const bucket = [form.elements.model.value, ...parts].join("/");
  let text = "Not known for these parameters";
  for (const row of table.querySelectorAll("[data-bucket]")) {
    const same = row.dataset.bucket === bucket;
    row.classList.toggle("chosen", same);
    if (same) text = `About ${row.lastElementChild.textContent}`;
  }
  line.hidden = false;
  if (line.textContent !== text) line.textContent = text;
}

if (form) {
  form.querySelectorAll("[data-media]").forEach(takeDropped);
  form.addEventListener("input", () => { check(); showPrice(); });
  form.addEventListener("submit", () => { // a second press sends nothing; even then there would be one task
    for (const button of form.querySelectorAll("button:not([type])")) setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => form.querySelectorAll("button").forEach((button) => { button.disabled = false; }));
  showPrice();
}
