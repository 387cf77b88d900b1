"""Golden loss curves: 200 steps of AdamW on tiny models, by PyTorch in float64 and in float32.

    python make_training.py [CASE ...]

writes Fixtures/training/CASE.safetensors, the data and what every step takes of them, and CASE.json. The start is the
model of CASE.json's `folder` as it is, in float32; lora's has the adapters of Fixtures/lora, which alone learn. Pictures
and latents are [N, C, H, W].

A step takes its batch, computes the loss and its gradient, multiplies all gradients by min(1, maxNorm / (norm + 1e-6)),
norm that of all of them, and takes a step of AdamW (bias corrected, decoupled decay of every parameter) at its rate.
`rates` has one number a step: they rise for 20 steps and fall over the last 40. Row K of each of these int32 or float32
tensors belongs to step K, one number a sample of the batch:
- `index`: the sample's place in `pictures`, `latents`, `ids` or `context`.
- Diffusion: `noiseIndex`, its place in `noises`; `timesteps`; `signal` and `deviation`, sqrt of the schedule's product of
  alphas and sqrt of the rest: sample = signal data + deviation noise.
- latent, lora: `contextIndex`, which is 0, the empty prompt's, where the caption was dropped; `weight`,
  min(SNR, 5) / (SNR + 1) with SNR = (signal / deviation)^2.

Losses: clip, that of make_gradients.py's tiny_clip. ddpm, mean((output - noise)^2). latent and lora, the mean over the batch of
weight times the mean of (output - v)^2 over the sample, v = signal noise - deviation data.

In CASE.json: `loss`, of every step before its update, in float64; `float32`, the same of PyTorch's float32; `norm`, of the
gradients before clipping. After step 50 the file of tensors has `after.PARAMETER`, the values at flat indices
floor(i count / n), i < n = min(8, count); `deviations` says how far PyTorch's float32 is from all of them, max |a - b| /
max |b| of a tensor. `undetermined` are parameters whose gradient is zero but for rounding: AdamW makes of rounding
steps of any size, which change no output, and they have no `after`.
"""

import json
import sys

import numpy
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from safetensors.torch import save_file
from transformers import CLIPModel

from make_gradients import UNET, contrastive, opened
from make_models import FIXTURES

FOLDER = FIXTURES / "training"
STEPS, AFTER, SAMPLES = 200, 50, 8
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def constant(x):
    return float(numpy.float32(x))


def rates(peak):
    """Up over 20 steps, level, down to a twentieth over the last 40."""
    return [constant(peak * min(1, (step + 1) / 20, (STEPS - step) / 40 + 0.05)) for step in range(STEPS)]


def batches(count, batch):
    """[STEPS, batch] places of `count` samples, all of which come before one comes again."""
    order = torch.cat([torch.randperm(count) for _ in range(STEPS * batch // count + 1)])
    return order[:STEPS * batch].reshape(STEPS, batch).int()


def run(model, data, rows, loss_of, settings, dtype):
    """(losses, norms, the largest gradient of each parameter, parameters after step AFTER).

    Of the tensors called `rows` a step gets its row, of the others all.
    """
    model = model.to(dtype)
    given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in data.items()}
    # PEFT has an adapter's name within its parameters'.
    parameters = {k.replace(".default_0", ""): p for k, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1, betas=settings["betas"], eps=settings["epsilon"],
                                  weight_decay=settings["weightDecay"])
    losses, norms, largest, after = [], [], {}, None
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, {k: v[step] if k in rows else v for k, v in given.items()})
        loss.backward()
        for name, p in parameters.items():
            if p.grad is not None:
                largest[name] = max(largest.get(name, 0), p.grad.abs().max().item())
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), settings["maxNorm"]).item())
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = settings["rates"][step]
        optimizer.step()
        if step + 1 == AFTER:
            after = {k: p.detach().double().clone() for k, p in parameters.items()}
    return losses, norms, largest, after


def write(name, folder, opening, data, rows, loss_of, peak):
    settings = {"steps": STEPS, "rates": rates(peak), "betas": [constant(0.9), constant(0.99)],
                "epsilon": constant(1e-8), "weightDecay": constant(0.01), "maxNorm": 1.0}
    losses, norms, largest, after = run(opening(), data, rows, loss_of, settings, torch.float64)
    losses32, _, _, after32 = run(opening(), data, rows, loss_of, settings, torch.float32)

    top = max(largest.values())
    undetermined = sorted(k for k, g in largest.items() if g < 1e-12 * top)
    stored, deviations = {}, {}
    for key, value in after.items():
        if key in undetermined:
            continue
        flat, count = value.flatten(), min(SAMPLES, value.numel())
        stored[f"after.{key}"] = flat[torch.arange(count) * flat.numel() // count].float()
        deviations[key] = float(f"{((after32[key] - value).abs().max() / value.abs().max()).item():.2g}")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    save_file({k: v.contiguous().clone() for k, v in sorted((data | stored).items())}, path)
    path.with_suffix(".json").write_text(json.dumps({
        "folder": folder, "after": AFTER, **settings, "loss": losses, "float32": losses32, "norm": norms,
        "undetermined": undetermined, "deviations": deviations}, indent=1) + "\n")
    apart = [abs(a - b) / b for a, b in zip(losses32, losses)]
    worst = max(deviations, key=deviations.get)
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    print(f"{name}: {path.stat().st_size / 1e3:.0f} kB, loss {first:.4f} to {last:.4f}, "
          f"{sum(n > 1 for n in norms)} of {STEPS} steps clipped; float32 is off by {max(apart[:AFTER]):.1e} to step "
          f"{AFTER}, {max(apart):.1e} in all; its parameters by {deviations[worst]} ({worst}); "
          f"{len(undetermined)} undetermined")


@case
def clip():
    count, batch = 32, 8
    config = opened(CLIPModel, "tiny-clip", "model.safetensors").config.text_config
    ids = torch.randint(0, 2386, (count, 7), dtype=torch.int32)
    ids[:, 0] = config.bos_token_id
    for row, end in enumerate(torch.randint(3, 7, (count,))):
        ids[row, end:] = config.eos_token_id

    def loss(model, given):
        index = given["index"].long()
        images = model.get_image_features(given["pictures"][index]).pooler_output
        texts = model.get_text_features(given["ids"][index]).pooler_output
        return contrastive(images, texts, model.logit_scale)

    write("clip", "tiny-clip", lambda: opened(CLIPModel, "tiny-clip", "model.safetensors"),
          {"pictures": torch.randn(count, 3, 16, 16), "ids": ids, "index": batches(count, batch)}, ["index"], loss, 1e-3)


def levels(scheduler, batch):
    """Of every step and sample: timesteps, signal and deviation."""
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (STEPS, batch), dtype=torch.int32)
    product = scheduler.alphas_cumprod.double()[timesteps.long()]
    return {"timesteps": timesteps, "signal": product.sqrt().float(), "deviation": (1 - product).sqrt().float()}


def spread(x):
    return x[:, None, None, None]


def smooth(count, channels):
    """Something that can be learnt: two waves in a picture of 8x8."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 8), torch.linspace(0, 3, 8), indexing="ij")
    a, b, c = 2 * torch.randn(3, count, channels, 1, 1)
    return torch.sin(a * y + b * x + c)


@case
def ddpm():
    count, batch, pool = 16, 4, 64
    scheduler = DDPMScheduler.from_pretrained(FIXTURES / "tiny-ddpm" / "scheduler")
    data = {"pictures": smooth(count, 3), "noises": torch.randn(pool, 3, 8, 8), "index": batches(count, batch),
            "noiseIndex": batches(pool, batch), **levels(scheduler, batch)}

    def loss(model, given):
        noise = given["noises"][given["noiseIndex"].long()]
        clean = given["pictures"][given["index"].long()]
        sample = spread(given["signal"]) * clean + spread(given["deviation"]) * noise
        return (model(sample, given["timesteps"]).sample - noise).square().mean()

    write("ddpm", "tiny-ddpm", lambda: opened(UNet2DModel, "tiny-ddpm/unet", UNET), data,
          ["index", "noiseIndex", "timesteps", "signal", "deviation"], loss, 1e-3)


def latents():
    """The data of `latent`, what each step takes of them, and its loss."""
    count, batch, pool = 16, 4, 64
    scheduler = DDIMScheduler.from_pretrained(FIXTURES / "tiny-sd" / "scheduler")
    data = {"latents": smooth(count, 4), "context": torch.randn(count + 1, 5, 64), "noises": torch.randn(pool, 4, 8, 8),
            "index": batches(count, batch), "noiseIndex": batches(pool, batch), **levels(scheduler, batch)}
    dropped = torch.rand(STEPS, batch) < 0.1
    data["contextIndex"] = torch.where(dropped, 0, data["index"] + 1).int()
    ratio = (data["signal"].double() / data["deviation"].double()).square()
    data["weight"] = (ratio.clamp(max=5) / (ratio + 1)).float()

    def loss(model, given):
        noise = given["noises"][given["noiseIndex"].long()]
        clean = given["latents"][given["index"].long()]
        signal, deviation = spread(given["signal"]), spread(given["deviation"])
        output = model(signal * clean + deviation * noise, given["timesteps"],
                       given["context"][given["contextIndex"].long()]).sample
        errors = (output - (signal * noise - deviation * clean)).square().mean((1, 2, 3))
        return (given["weight"] * errors).mean()

    return data, ["index", "noiseIndex", "contextIndex", "timesteps", "signal", "deviation", "weight"], loss


@case
def latent():
    write("latent", "tiny-sd", lambda: opened(UNet2DConditionModel, "tiny-sd/unet", UNET), *latents(), 5e-4)


@case
def lora():
    """The adapters of Fixtures/lora go on learning; the UNet stays as it is."""
    def opening():
        model = opened(UNet2DConditionModel, "tiny-sd/unet", UNET)
        model.load_lora_adapter(FIXTURES / "lora", weight_name="pytorch_lora_weights.safetensors", prefix="unet")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return model

    write("lora", "tiny-sd", opening, *latents(), 5e-3)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(7000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
