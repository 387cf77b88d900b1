// From settings to pictures, and the gallery of them.
import { maskData } from "./mask.js";
import { $, ask, events, json, say, state } from "./server.js";
import { fields, model, showModel } from "./settings.js";

// MARK: Ordering

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

// MARK: Drawing

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

export async function draw() {
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

export async function cancel() {
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

export async function loadGallery() {
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
