// The settings that a model has.
import { $, say, state } from "./server.js";

export const fields = [
  "prompt", "negative_prompt", "steps", "guidance", "sampler", "spacing", "width", "height", "seed", "prompt_syntax",
  "rng", "strength",
];

export function model() { return state.models.find((model) => model.id === $("model").value) ?? state.models[0]; }

/// Shows the settings that the model has, with what it takes where they are empty.
export function showModel() {
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

export function showSpacings() {
  const sampler = state.samplers.find((sampler) => sampler.name === ($("sampler").value || model()?.defaults?.sampler));
  const kept = $("spacing").value;
  const names = (sampler?.spacings ?? []).filter((name) => name !== "timesteps" && name !== "sigmas");
  $("spacing").replaceChildren(new Option("default", ""), ...names.map((name) => new Option(name, name)));
  $("spacing").value = names.includes(kept) ? kept : "";
}
