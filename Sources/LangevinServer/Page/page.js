"use strict";
// The page of `langevin serve`. It knows only what the server tells: models, their settings, samplers.

const $ = (id) => document.getElementById(id);
const state = { models: [], samplers: [], job: null, image: null, gallery: [], shown: null };

// MARK: Talking to the server

function headers(more = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...more, Authorization: "Bearer " + key } : more;
}

let asking = null;
function askForKey() {
  asking ??= new Promise((done) => {
    const dialog = $("key-dialog");
    dialog.showModal();
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value);
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}

/// Throws an error with the server's own line.
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.status === 401) {
    await askForKey();
    return ask(path, options);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let line = `The server answers ${answer.status}.`;
  try { line = JSON.parse(text).error.message; } catch { /* It is no JSON. */ }
  throw new Error(line);
}

const json = async (path, options) => (await ask(path, options)).json();

/// Calls `take(name, data)` for each server-sent event.
async function events(path, take) {
  const answer = await ask(path);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const field = (name) => lines.find((line) => line.startsWith(name + ": "))?.slice(name.length + 2);
      if (field("event")) take(field("event"), JSON.parse(field("data") ?? "null"));
    }
  }
}

// MARK: Settings

const fields = [
  "prompt", "negative_prompt", "steps", "guidance", "sampler", "spacing", "width", "height", "seed", "prompt_syntax",
  "rng", "strength",
];

function model() { return state.models.find((model) => model.id === $("model").value) ?? state.models[0]; }

/// Shows the settings that the model has, with what it takes where they are empty.
function showModel() {
  const { settings = [], defaults = {}, error } = model() ?? {};
  for (const row of document.querySelectorAll("[data-setting]")) {
    row.hidden = !settings.includes(row.dataset.setting);
  }
  for (const name of ["steps", "guidance", "width", "height"]) $(name).placeholder = defaults[name] ?? "";
  $("sampler").options[0].textContent = defaults.sampler ? `${defaults.sampler} (default)` : "default";
  $("draw").disabled = Boolean(error) || state.job !== null;
  if (error) say(error, true);
  $("strength-row").hidden = !state.image || !settings.includes("strength");
}

function showSpacings() {
  const sampler = state.samplers.find((sampler) => sampler.name === ($("sampler").value || model()?.defaults?.sampler));
  const kept = $("spacing").value;
  const names = (sampler?.spacings ?? []).filter((name) => name !== "timesteps" && name !== "sigmas");
  $("spacing").replaceChildren(new Option("default", ""), ...names.map((name) => new Option(name, name)));
  $("spacing").value = names.includes(kept) ? kept : "";
}

function order() {
  const body = { count: Number($("count").value) || 1 };
  if (state.models.length > 1) body.model = $("model").value;
  const numbers = ["steps", "guidance", "width", "height", "strength"];
  for (const name of fields) {
    const field = $(name);
    const row = field.closest("[data-setting]");
    if (row?.hidden || (name === "strength" && !state.image)) continue;
    const value = field.value.trim();
    if (value === "" || (name === "prompt_syntax" && value === "plain") || (name === "rng" && value === "philox")) continue;
    body[name] = numbers.includes(name) ? Number(value) : value;
  }
  const settings = model()?.settings ?? [];
  if (settings.includes("preview")) {
    const steps = body.steps ?? model().defaults?.steps ?? 20;
    body.preview_every = Math.max(1, Math.round(steps / 16));
  }
  if (state.image && settings.includes("image")) {
    body.image = state.image.data;
    const mask = maskData();
    if (mask && settings.includes("mask")) body.mask = mask;
  }
  return body;
}

/// A seed of 64 bits is no JavaScript number: it goes into the JSON as it was typed.
function orderText() {
  const { seed, ...body } = order();
  const text = JSON.stringify(body);
  if (seed === undefined) return text;
  return text.slice(0, -1) + `,"seed":${/^\d+$/.test(seed) ? seed : JSON.stringify(seed)}}`;
}

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

// MARK: Drawing

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

function setBusy(job) {
  state.job = job;
  $("draw").disabled = job !== null;
  $("cancel").hidden = job === null;
  $("progress").hidden = job === null;
}

function warn(line) {
  const item = document.createElement("li");
  item.textContent = line;
  $("warnings").append(item);
  $("warnings").hidden = false;
}

async function draw() {
  if (state.job !== null || $("draw").disabled) return;
  setBusy("");
  $("progress").value = 0;
  $("warnings").replaceChildren();
  $("warnings").hidden = true;
  $("pictures").replaceChildren();
  say("Sending…");
  const previews = new Map();
  try {
    const job = await json("/v1/jobs", {
      method: "POST", body: orderText(), headers: { "Content-Type": "application/json" },
    });
    setBusy(job.id);
    const waiting = [];
    await events(`/v1/jobs/${job.id}/events?cancel_on_close=true`, (name, data) => {
      switch (name) {
      case "queued": say(`Waiting: ${data.place} in the queue.`); break;
      case "started": say("Drawing…"); break;
      case "loading": say(`Loading the ${data.component}…`); break;
      case "warning": warn(data.message); break;
      case "progress":
        $("progress").value = data.progress;
        say(`Step ${data.step} of ${data.steps}` + (job.count > 1 ? `, ${job.count} pictures` : ""));
        break;
      case "preview":
        showPreview(previews, data);
        break;
      case "picture":
        previews.get(data.index)?.remove();
        waiting.push(addPicture(data, job.prompt));
        break;
      case "done":
        say(`Done in ${(data.ended - data.started).toFixed(1)} s.`);
        break;
      case "cancelled": say("Cancelled."); break;
      case "failed": say(data.error, true); break;
      }
    });
    await Promise.all(waiting);
  } catch (error) {
    say(error.message, true);
  }
  for (const preview of previews.values()) preview.remove();
  setBusy(null);
  showModel();
}

/// Each image of a batch has its own.
function showPreview(previews, { index, image }) {
  let preview = previews.get(index);
  if (!preview) {
    preview = document.createElement("img");
    preview.className = "preview";
    preview.alt = `Preview of picture ${index + 1}`;
    previews.set(index, preview);
    $("pictures").append(preview);
  }
  preview.src = image;
}

async function cancel() {
  if (!state.job) return;
  try { await ask(`/v1/jobs/${state.job}`, { method: "DELETE" }); } catch (error) { say(error.message, true); }
}

// MARK: Pictures

/// Fetched, as an address alone would not carry the key.
async function loaded(picture) {
  const blob = await (await ask(picture.url)).blob();
  return { ...picture, blob, source: URL.createObjectURL(blob) };
}

function button(picture) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "picture" + (picture.width < 256 ? " small" : "");
  const image = document.createElement("img");
  image.src = picture.source;
  image.alt = picture.prompt || "A picture without a prompt";
  const text = document.createElement("span");
  text.textContent = `${picture.prompt || "no prompt"} · seed ${seedOf(picture)}`;
  element.append(image, text);
  element.addEventListener("click", () => view(picture));
  return element;
}

/// From the text, since a seed of 64 bits is no JavaScript number.
function seedOf(picture) { return /\bSeed: (\d+)/.exec(picture.text)?.[1] ?? picture.seed; }

async function addPicture(data, prompt) {
  const picture = { ...(await loaded(data)), prompt };
  $("pictures").append(button(picture));
  state.gallery.unshift(picture);
  $("gallery").prepend(button(picture));
  $("gallery-empty").hidden = true;
}

async function loadGallery() {
  const { jobs } = await json("/v1/jobs");
  for (const job of jobs) {
    for (const data of job.pictures) {
      try {
        const picture = { ...(await loaded(data)), prompt: job.prompt };
        state.gallery.push(picture);
        $("gallery").append(button(picture));
        $("gallery-empty").hidden = true;
      } catch { /* It was forgotten meanwhile. */ }
    }
  }
}

function view(picture) {
  state.shown = picture;
  $("viewer-image").src = picture.source;
  $("viewer-image").alt = picture.prompt || "A picture without a prompt";
  $("viewer-text").textContent = picture.text;
  $("viewer-save").href = picture.source;
  $("viewer-save").download = `langevin-${seedOf(picture)}.png`;
  $("viewer").showModal();
}

// MARK: Starting from a picture

async function startFrom(blob, name) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob); } catch { return say(`${name} is no picture that this browser reads.`, true); }
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  state.image = { data: btoa(binary), width: bitmap.width, height: bitmap.height };
  for (const canvas of [$("image-canvas"), $("mask-canvas")]) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  }
  $("image-canvas").getContext("2d").drawImage(bitmap, 0, 0);
  $("brush").max = Math.max(8, Math.round(Math.min(bitmap.width, bitmap.height) / 2));
  $("brush").value = Math.max(4, Math.round(Math.min(bitmap.width, bitmap.height) / 6));
  $("start-picture").hidden = false;
  brush.x = bitmap.width / 2;
  brush.y = bitmap.height / 2;
  brush.painted = false;
  showModel();
  say(`Starting from ${name}.`);
}

function removeImage() {
  state.image = null;
  $("start-picture").hidden = true;
  $("file").value = "";
  showModel();
  say("Starting from noise.");
}

const brush = { x: 0, y: 0, isDown: false, painted: false };
const paint = document.createElement("canvas");

/// A round spot from the last place to this one.
function stroke(x, y, fromX = x, fromY = y) {
  const context = paintContext();
  context.globalCompositeOperation = $("erase").getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
  context.strokeStyle = "#e6007e";
  context.lineWidth = Number($("brush").value);
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(x, y + 0.01);
  context.stroke();
  brush.painted = true;
  showMask();
}

function paintContext() {
  const { width, height } = $("mask-canvas");
  if (paint.width !== width || paint.height !== height || !brush.painted) [paint.width, paint.height] = [width, height];
  return paint.getContext("2d", { willReadFrequently: true });
}

function showMask() {
  const canvas = $("mask-canvas");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (brush.painted) context.drawImage(paint, 0, 0);
  if (document.activeElement === canvas) {
    context.strokeStyle = "#000";
    context.lineWidth = Math.max(1, canvas.width / 128);
    context.beginPath();
    context.arc(brush.x, brush.y, Number($("brush").value) / 2, 0, 2 * Math.PI);
    context.stroke();
  }
}

/// A PNG in base64, white where it is painted; null where nothing is.
function maskData() {
  if (!brush.painted) return null;
  const context = paintContext();
  const pixels = context.getImageData(0, 0, paint.width, paint.height);
  let isEmpty = true;
  for (let place = 0; place < pixels.data.length; place += 4) {
    const value = pixels.data[place + 3] > 127 ? 255 : 0;
    if (value) isEmpty = false;
    pixels.data.fill(value, place, place + 3);
    pixels.data[place + 3] = 255;
  }
  if (isEmpty) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [paint.width, paint.height];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/png").split(",")[1];
}

function place(event) {
  const canvas = $("mask-canvas");
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}

function setUpMask() {
  const canvas = $("mask-canvas");
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.isDown = true;
    [brush.x, brush.y] = place(event);
    stroke(brush.x, brush.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!brush.isDown) return;
    const [x, y] = place(event);
    stroke(x, y, brush.x, brush.y);
    [brush.x, brush.y] = [x, y];
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { brush.isDown = false; });
  canvas.addEventListener("keydown", (event) => {
    const far = Math.max(1, Number($("brush").value) / 2);
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      brush.x = Math.min(Math.max(brush.x + x, 0), canvas.width);
      brush.y = Math.min(Math.max(brush.y + y, 0), canvas.height);
    } else if (event.key === " ") {
      stroke(brush.x, brush.y);
    } else {
      return;
    }
    event.preventDefault();
    showMask();
  });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, showMask);
  $("erase").addEventListener("click", () => {
    $("erase").setAttribute("aria-pressed", String($("erase").getAttribute("aria-pressed") !== "true"));
  });
  $("clear-mask").addEventListener("click", () => { brush.painted = false; showMask(); });
  $("remove-image").addEventListener("click", removeImage);
}

// MARK: Files

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
    row.insertCell().textContent = typeof value === "object" ? JSON.stringify(value) : String(value);
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
