// The page of `langevin serve`. It knows only what the server tells: models, their settings, samplers.
import { cancel, draw, loadGallery } from "./drawing.js";
import { setUpMask, startFrom } from "./mask.js";
import { $, ask, json, say, state } from "./server.js";
import { fields, showModel, showSpacings } from "./settings.js";

// MARK: Files

async function takeSettings(file, name) {
  try {
    const answer = await ask("/v1/png-info", { method: "POST", body: file });
    // Numbers stay as they are spelled: seeds have 64 bits.
    const text = await answer.text();
    const { settings } = JSON.parse(text);
    if (!Object.keys(settings).length) return say(`${name} carries no settings.`, true);
    const seed = /"seed":(\d+)/.exec(text)?.[1];
    for (const field of fields) if (field in settings || field === "negative_prompt") $(field).value = settings[field] ?? "";
    if (seed) $("seed").value = seed;
    if (settings.model && state.models.some((model) => model.id === settings.model)) $("model").value = settings.model;
    showModel();
    showSpacings();
    say(`The settings are those of ${name}.`);
    show("draw");
    $("prompt").focus();
  } catch (error) { say(error.message, true); }
}

function setUpFiles() {
  $("file").addEventListener("change", () => {
    const file = $("file").files[0];
    if (file) startFrom(file, file.name);
  });
  $("settings-file").addEventListener("change", () => {
    const file = $("settings-file").files[0];
    if (file) takeSettings(file, file.name);
    $("settings-file").value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", $("drop").contains(event.target));
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    // In the frame it is what is varied, elsewhere what is repeated.
    if ($("start").contains(event.target)) startFrom(file, file.name); else takeSettings(file, file.name);
  });
}

// MARK: Views

const views = ["draw", "gallery", "devices"];

function show(name) {
  for (const view of views) {
    const isShown = view === name;
    $("view-" + view).hidden = !isShown;
    $("tab-" + view).setAttribute("aria-selected", String(isShown));
    $("tab-" + view).tabIndex = isShown ? 0 : -1;
  }
  if (name === "devices") showDevices();
}

function setUpTabs() {
  for (const name of views) {
    $("tab-" + name).addEventListener("click", () => show(name));
    $("tab-" + name).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = views[(views.indexOf(name) + step + views.length) % views.length];
      show(next);
      $("tab-" + next).focus();
    });
  }
}

// As `langevin devices` writes amounts of memory.
function byteCount(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return Math.round(count * 10) / 10 + " " + units[unit];
}

function cell(name, value) {
  if (typeof value === "object") return JSON.stringify(value);
  return typeof value === "number" && /(memory|allocation)$/i.test(name) ? byteCount(value) : String(value);
}

function table(title, values) {
  const element = document.createElement("table");
  const caption = element.createCaption();
  caption.textContent = title;
  for (const [name, value] of Object.entries(values)) {
    const row = element.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    row.insertCell().textContent = cell(name, value);
  }
  return element;
}

let devices = null;
async function showDevices() {
  try {
    devices ??= json("/v1/devices");
    const { drawing, found } = await devices;
    $("drawing-devices").replaceChildren(...drawing.map((name) => {
      const item = document.createElement("li");
      item.textContent = name;
      return item;
    }));
    // Drivers come after what they drive.
    const kinds = Object.entries(found).sort(([a], [b]) => (a === "drivers") - (b === "drivers"));
    const tables = kinds.flatMap(([kind, value]) => {
      const list = Array.isArray(value) ? value : [value];
      return list.map((device) => table(
        device.name ?? device.title ?? kind, typeof device === "object" ? device : { [kind]: device }));
    });
    $("found-devices").replaceChildren(...tables);
  } catch (error) {
    devices = null;
    const line = document.createElement("p");
    line.textContent = error.message;
    $("found-devices").replaceChildren(line);
  }
}

// MARK: Start

async function start() {
  setUpTabs();
  setUpFiles();
  setUpMask();
  $("form").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  $("view-draw").addEventListener("keydown", (event) => {
    const isField = event.target.matches("#options input:not([type=file])");
    if (event.key === "Enter" && (isField || event.ctrlKey || event.metaKey)) { event.preventDefault(); draw(); }
  });
  $("cancel").addEventListener("click", cancel);
  $("model").addEventListener("change", () => { say("Ready."); showModel(); showSpacings(); });
  $("sampler").addEventListener("change", showSpacings);
  $("viewer-close").addEventListener("click", () => $("viewer").close());
  $("viewer-again").addEventListener("click", () => {
    $("viewer").close();
    takeSettings(state.shown.blob, "this picture");
  });
  $("viewer-start").addEventListener("click", () => {
    $("viewer").close();
    show("draw");
    startFrom(state.shown.blob, "this picture");
  });
  try {
    state.models = (await json("/v1/models")).data;
    state.samplers = (await json("/v1/samplers")).samplers;
    $("model").replaceChildren(...state.models.map(({ id, error }) => new Option(error ? `${id} (cannot be used)` : id, id)));
    $("model-row").hidden = state.models.length < 2;
    $("sampler").replaceChildren(
      new Option("default", ""), ...state.samplers.map(({ name, purpose }) => {
        const option = new Option(name, name);
        option.title = purpose;
        return option;
      }));
    showModel();
    showSpacings();
    await loadGallery();
  } catch (error) { say(error.message, true); }
}

start();
