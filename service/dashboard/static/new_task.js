// The form for a new task works without this script. It checks files before they are sent, takes files that are
// dropped beside the input, and shows the price of the chosen parameters.
"use strict";

const form = document.querySelector("[data-new-task]");
const MB = 1024 * 1024;
const amount = (bytes) => `${(bytes / MB).toFixed(1)} MB`;

const groups = (selector = "[data-media]") => [...form.querySelectorAll(selector)];

function chosen(group) { // how many images or videos a field has
  const lines = group.querySelector("textarea").value.split("\n").filter((line) => line.trim()).length;
  return group.querySelector("input[type=file]").files.length + lines + group.querySelectorAll(".kept input:checked").length;
}

function limit(group) { // a field may have fewer beside those of another one
  const { most, mostWith = "" } = group.dataset;
  const others = mostWith.split(" ").filter(Boolean).map((each) => each.split("="));
  const lower = others.filter(([name]) => groups(`[data-name="${name}"]`).some(chosen));
  return lower.reduce((found, [name, count]) => Number(count) < found[0] ? [Number(count), ` together with ${name}`] : found, [Number(most), ""]);
}

function problem(group, input) {
  const { maxBytes, types, together } = group.dataset, count = chosen(group), [most, why] = limit(group);
  if (count > most) return `${count} are chosen: at most ${most} are allowed${why}.`;
  const all = groups("[data-together]").reduce((sum, each) => sum + chosen(each), 0);
  if (together && count && all > Number(together)) return `${all} are chosen over all: at most ${together} are allowed. Remove ${all - Number(together)}.`;
  for (const file of input.files) {
    if (types && file.type && !types.split(",").includes(file.type)) return `${file.name} is ${file.type}: choose one of ${types.replaceAll(",", ", ")}.`;
    if (maxBytes && file.size > Number(maxBytes)) return `${file.name} has ${amount(file.size)}: at most ${amount(Number(maxBytes))} are allowed.`;
  }
  const inputs = [...form.querySelectorAll("input[type=file]")];
  const total = inputs.flatMap((each) => [...each.files]).reduce((sum, file) => sum + file.size, 0);
  const limitOfAll = Number(form.dataset.maxBytes) * 0.74; // base64 takes a third more
  if (total > limitOfAll) return `All files together have ${amount(total)}: at most ${amount(limitOfAll)} fit into one request. Use addresses for large ones.`;
  return "";
}

function checkMedia() {
  return groups().map((group) => {
    const input = group.querySelector("input[type=file]");
    const line = document.getElementById(`${input.name}-live`);
    const text = problem(group, input);
    input.setCustomValidity(text);
    line.hidden = !text;
    line.textContent = text;
    return text;
  });
}

function checkTexts() { // no maxlength: it would cut off what is pasted, without a word
  return [...form.querySelectorAll("[data-count]")].map((line) => {
    const most = Number(line.dataset.count), field = document.getElementById(line.id.replace(/-count$/, ""));
    const pairs = field.value.match(/[\uD800-\uDBFF][\uDC00-\uDFFF]/g) || []; // one character, as the service counts
    const count = field.value.length - pairs.length, over = count - most;
    const text = over > 0 ? `${count.toLocaleString("en")} characters: at most ${most.toLocaleString("en")} are allowed. Remove ${over.toLocaleString("en")}.` : "";
    field.setCustomValidity(text);
    line.className = text ? "fault" : "help";
    line.textContent = text || `${count.toLocaleString("en")} of at most ${most.toLocaleString("en")} characters.`;
    return text;
  });
}

let announced = "";

function check() { // the first problem is announced in the status of the page, else the price
  const first = [...checkTexts(), ...checkMedia()].find(Boolean) || "";
  const price = showPrice();
  if (announced !== (first || price)) say(announced = first || price);
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
  if (!table) return "";
  const parts = table.dataset.priceBy.split(" ").map(value).filter(Boolean);
  const bucket = [form.elements.model.value, ...parts].join("/");
  let text = "Not known for these parameters";
  for (const row of table.querySelectorAll("[data-bucket]")) {
    const same = row.dataset.bucket === bucket;
    row.classList.toggle("chosen", same);
    if (same) text = `About ${row.lastElementChild.textContent}`;
  }
  line.hidden = false;
  line.textContent = text;
  return `Price: ${text}`;
}

if (form) {
  form.querySelectorAll("[data-media]").forEach(takeDropped);
  form.addEventListener("input", check);
  form.addEventListener("invalid", ({ target }) => { // where it is closed, nobody would see why nothing is sent
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  }, true);
  form.addEventListener("submit", () => { // a second press sends nothing; even then there would be one task
    for (const button of form.querySelectorAll("button:not([type])")) setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => { // also "back", with what was typed
    form.querySelectorAll("button").forEach((button) => { button.disabled = false; });
    announced = showPrice(); // nothing is announced before somebody changes something
    checkTexts();
    checkMedia();
  });
}
