"""Golden gradients of the models: a loss, and its gradient by every parameter and every floating-point input.

    python make_gradients.py [CASE ...]

writes Fixtures/gradients/CASE.safetensors with `input.NAME`, `output.NAME`, `loss`, `gradient.PARAMETER` (names and
layouts of the checkpoint) and `inputGradient.NAME`, and CASE.json, which says where config.json and the weights lie.
PyTorch computes in float64 from the float32 weights and inputs and rounds at the end. Pictures are [N, C, H, W].
The lora case needs peft, and writes Fixtures/lora/pytorch_lora_weights.safetensors, its weights, too.

Losses. Means are over all elements. `noise` and `target` are inputs like the others, with gradients.
- UNets: mean((output - noise)^2), output = model(sample, timesteps, ...). Timesteps get no gradient, and their
  sinusoids are float32, as diffusers computes them.
- vae: mean(abs(decoded - target)) + 0.5 mean(KL), KL = 0.5 (mean^2 + exp(logvar) - 1 - logvar) element by element,
  logvar clamped to -30...20 (none is outside), decoded = decoder(mean + exp(0.5 logvar) noise): no scaling factor.
  The target is the picture, but at least 0.05 away from `decoded`, where abs has its kink.
- tiny_clip: S = exp(logit_scale) I T^t with the rows of I (pictures) and T (texts) divided by their Euclidean lengths;
  0.5 (mean_i(logsumexp_j S_ij - S_ii) + mean_j(logsumexp_i S_ij - S_jj)).
- prior_karlo: mean((output - target)^2).
- lora: the loss of tiny_sd_unet; adapters of rank 4 at to_q, to_k, to_v and to_out.0, y = W x + (alpha / 4) B A x with
  alpha = 8. The base is frozen: only adapters and inputs have gradients.

In CASE.json, for measure: `loss` to all digits; `float32` and `float16`, how far PyTorch's own gradients in that
precision are from these, max |a - b| / max |b| of each tensor (float16: weights, inputs and activations, its loss
times `float16Scale` before the backward pass); `unreached`, parameters that the loss does not depend on; `vanishing`,
tensors whose gradient is zero but for rounding (what a norm or a softmax takes out again), which are stored as zeros
and whose distances are relative to the largest gradient of the case.
"""

import json
import sys

import torch
from diffusers import AutoencoderKL, PriorTransformer, UNet2DConditionModel, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from transformers import CLIPModel

from make_models import FIXTURES

FOLDER = FIXTURES / "gradients"
FLOAT16_SCALE = 1024
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def opened(kind, folder, weights):
    """A model of a fixture in float32, whichever precision its file has."""
    config = json.loads((FIXTURES / folder / "config.json").read_text())
    model = kind(kind.config_class(**config)) if kind is CLIPModel else kind.from_config(config)
    model.load_state_dict({k: v.float() for k, v in load_file(FIXTURES / folder / weights).items()})
    return model.eval().requires_grad_(True)


# Losses, from what a model computed. In float32 at least: a mean of squares in float16 would be all rounding.

def wide(x):
    return x if x.dtype == torch.float64 else x.float()


def mean_square(a, b):
    return (wide(a) - wide(b)).square().mean()


def mean_absolute(a, b):
    return (wide(a) - wide(b)).abs().mean()


def mean_divergence(mean, logvar):
    """Of the Gaussian from the standard one."""
    mean, logvar = wide(mean), wide(logvar)
    return (0.5 * (mean.square() + logvar.exp() - 1 - logvar)).mean()


def normalized(x):
    x = wide(x)
    return x * x.square().sum(-1, keepdim=True).rsqrt()


def contrastive(images, texts, logit_scale):
    scores = wide(logit_scale).exp() * normalized(images) @ normalized(texts).T
    own = scores.diagonal()
    return 0.5 * ((scores.logsumexp(1) - own).mean() + (scores.logsumexp(0) - own).mean())


# What a model computes of named inputs: {name: tensor}, and the loss.

class Denoising(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timesteps, noise, context=None, class_labels=None):
        arguments = {} if context is None else {"encoder_hidden_states": context}
        output = self.model(sample, timesteps, class_labels=class_labels, **arguments).sample
        return {"sample": output}, mean_square(output, noise)


class Autoencoding(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, picture, noise, target):
        moments = self.model.quant_conv(self.model.encoder(picture))
        mean, logvar = moments.chunk(2, dim=1)
        assert logvar.abs().max() < 20
        decoded = self.model.decode(mean + (0.5 * logvar).exp() * noise).sample
        loss = mean_absolute(decoded, target) + 0.5 * mean_divergence(mean, logvar)
        return {"mean": mean, "logvar": logvar, "decoded": decoded}, loss


class Contrasting(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pictures, ids):
        images = self.model.get_image_features(pictures).pooler_output
        texts = self.model.get_text_features(ids).pooler_output
        return {"images": images, "texts": texts}, contrastive(images, texts, self.model.logit_scale)


class Predicting(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timesteps, embedding, text, mask, target):
        output = self.model(sample, timesteps, embedding, text, mask != 0).predicted_image_embedding
        return {"embedding": output}, mean_square(output, target)


# Gradients

def parameters_of(task):
    return {name.removeprefix("model."): p for name, p in task.named_parameters() if p.requires_grad}


def converted(x, dtype):
    return x.to(dtype) if x.is_floating_point() else x


def differentiate(task, inputs, dtype, scale=1):
    """(outputs, loss, gradients by parameter, gradients by input) in one precision, for float32 weights and inputs."""
    task = task.to(dtype)
    given = {name: x if name == "timesteps" else converted(x, dtype) for name, x in inputs.items()}
    leaves = {n: x.requires_grad_() for n, x in given.items() if x.is_floating_point() and n != "timesteps"}
    outputs, loss = task(**given)
    parameters = parameters_of(task)
    found = torch.autograd.grad(loss * scale, [*parameters.values(), *leaves.values()], allow_unused=True)
    found = [None if g is None else g.double() / scale for g in found]
    return ({k: v.detach() for k, v in outputs.items()}, loss.item(),
            dict(zip(parameters, found)), dict(zip(leaves, found[len(parameters):])))


def check(task, inputs, gradients, input_gradients):
    """Against central differences of the float64 loss along a random direction: float32 anywhere inside would show."""
    task = task.double()
    values = {f"model.{k}": v.detach() for k, v in parameters_of(task).items()}
    given = {k: v if k == "timesteps" else converted(v, torch.float64).detach() for k, v in inputs.items()}
    ways = {k: torch.randn_like(v) * v.abs().max() for k, v in values.items()}
    input_ways = {k: torch.randn_like(given[k]) for k in input_gradients}

    def loss(h):
        moved = {k: v + h * ways[k] for k, v in values.items()}
        return functional_call(task, moved, (), given | {k: given[k] + h * w for k, w in input_ways.items()})[1].item()

    # Richardson's extrapolation of two central differences: the error is of the fourth order.
    h = 1e-5
    wide_step, narrow = (loss(2 * h) - loss(-2 * h)) / (4 * h), (loss(h) - loss(-h)) / (2 * h)
    difference = (4 * narrow - wide_step) / 3
    slope = sum((g * ways[f"model.{k}"]).sum() for k, g in gradients.items() if g is not None)
    slope = (slope + sum((g * input_ways[k]).sum() for k, g in input_gradients.items())).item()
    error = abs(difference - slope) / abs(slope)
    assert error < 1e-6, f"the difference {difference} is not the slope {slope}"
    return error


def write(name, task, inputs, place, weights, rename=lambda name: name):
    """Every name is checked against the file of weights."""
    outputs, loss, gradients, input_gradients = differentiate(task, inputs, torch.float64)
    error = check(task, inputs, gradients, input_gradients)
    with safe_open(FIXTURES / weights, "pt") as file:
        names = set(file.keys())
        for parameter, gradient in gradients.items():
            shape = file.get_slice(rename(parameter)).get_shape()
            assert gradient is None or list(gradient.shape) == shape, parameter

    reached = {rename(k): g for k, g in gradients.items() if g is not None}
    exact = {f"gradient.{k}": g for k, g in reached.items()} | {
        f"inputGradient.{k}": g for k, g in input_gradients.items()}
    largest = max(g.abs().max() for g in exact.values()).item()
    vanishing = sorted(k for k, g in exact.items() if g.abs().max() < 1e-12 * largest)
    for k in vanishing:
        exact[k] = torch.zeros_like(exact[k])

    def distances(dtype, scale):
        for name, parameter in parameters_of(task).items():
            parameter.data = start[name].clone()
        _, other_loss, by_parameter, by_input = differentiate(task, inputs, dtype, scale)
        other = {f"gradient.{rename(k)}": g for k, g in by_parameter.items()} | {
            f"inputGradient.{k}": g for k, g in by_input.items()}
        result = {"loss": abs(other_loss - loss) / abs(loss)}
        for k, g in exact.items():
            scale = largest if k in vanishing else g.abs().max().item()
            result[k] = float(f"{(other[k] - g).abs().max().item() / scale:.3g}")
        return result

    # float32 weights are float64's exactly; float16's are not, and are rounded last.
    start = {k: v.detach().float() for k, v in parameters_of(task).items()}
    precisions = {"float32": distances(torch.float32, 1), "float16": distances(torch.float16, FLOAT16_SCALE)}
    FOLDER.mkdir(exist_ok=True)
    stored = {f"input.{k}": converted(v, torch.float32) for k, v in inputs.items()} | {
        f"output.{k}": v.float() for k, v in outputs.items()} | {
        k: g.float() for k, g in exact.items()} | {"loss": torch.tensor(loss, dtype=torch.float32)}
    save_file({k: v.detach().contiguous().clone() for k, v in sorted(stored.items())}, FOLDER / f"{name}.safetensors")
    description = {
        "class": type(task.model).__name__, **place, "weights": weights, "loss": loss,
        "unreached": sorted(rename(k) for k, g in gradients.items() if g is None), "vanishing": vanishing,
        "float16Scale": FLOAT16_SCALE, **precisions}
    (FOLDER / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")

    size = (FOLDER / f"{name}.safetensors").stat().st_size
    print(f"{name}: {size / 1e3:.0f} kB, loss {loss:.6g}, {len(reached)} of {len(names)} tensors, "
          f"{len(vanishing)} vanish, slope off by {error:.1g}")
    for precision, values in precisions.items():
        ranked = sorted(values.items(), key=lambda item: -item[1])
        print(f"  {precision}: loss {values['loss']:.1e}, worst {ranked[0][1]:.1e} {ranked[0][0]}, "
              f"median {ranked[len(ranked) // 2][1]:.1e}")


# Cases

UNET = "diffusion_pytorch_model.safetensors"


def denoising(name, kind, folder, file, **inputs):
    model = opened(kind, folder, file)
    shape = inputs["sample"].shape
    inputs = {"timesteps": torch.tensor([521.0, 17.0]), "noise": torch.randn(shape)} | inputs
    write(name, Denoising(model), inputs, {"config": f"{folder}/config.json"}, f"{folder}/{file}")


@case
def tiny_sd_unet():
    denoising("tiny_sd_unet", UNet2DConditionModel, "tiny-sd/unet", UNET,
              sample=torch.randn(2, 4, 8, 8), context=torch.randn(2, 5, 64))


@case
def unet_scale_shift():
    denoising("unet_scale_shift", UNet2DConditionModel, "unet_scale_shift", "weights.safetensors",
              sample=torch.randn(2, 4, 8, 12), context=torch.randn(2, 7, 12), class_labels=torch.randn(2, 20))


@case
def tiny_ddpm_unet():
    denoising("tiny_ddpm_unet", UNet2DModel, "tiny-ddpm/unet", UNET, sample=torch.randn(2, 3, 12, 8))


@case
def vae():
    model = opened(AutoencoderKL, "vae", "weights.safetensors")
    task = Autoencoding(model)
    inputs = {"picture": torch.randn(2, 3, 16, 12), "noise": torch.randn(2, 3, 8, 6)}
    with torch.no_grad():
        decoded = task(**inputs, target=inputs["picture"])[0]["decoded"]
    away = inputs["picture"] - decoded
    inputs["target"] = torch.where(away.abs() < 0.05, decoded + 0.05 * away.sign(), inputs["picture"])
    write("vae", task, inputs, {"config": "vae/config.json"}, "vae/weights.safetensors")


@case
def tiny_clip():
    model = opened(CLIPModel, "tiny-clip", "model.safetensors")
    ids = torch.randint(0, 2386, (4, 7), dtype=torch.int32)
    ids[:, 0] = model.config.text_config.bos_token_id
    for row, end in enumerate((6, 3, 5, 4)):
        ids[row, end:] = model.config.text_config.eos_token_id
    ids[1, 1] = ids[0, 1]  # a token of two texts
    write("tiny_clip", Contrasting(model), {"pictures": torch.randn(4, 3, 16, 16), "ids": ids},
          {"config": "tiny-clip/config.json"}, "tiny-clip/model.safetensors")


@case
def prior_karlo():
    model = opened(PriorTransformer, "prior_karlo", "weights.safetensors")
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0]], dtype=torch.int32)
    write("prior_karlo", Predicting(model), {
        "sample": torch.randn(2, 12), "timesteps": torch.tensor([521.0, 17.0]), "embedding": torch.randn(2, 12),
        "text": torch.randn(2, 7, 12), "mask": mask, "target": torch.randn(2, 12),
    }, {"config": "prior_karlo/config.json"}, "prior_karlo/weights.safetensors")


@case
def lora():
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    model = opened(UNet2DConditionModel, "tiny-sd/unet", UNET).requires_grad_(False)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["to_k", "to_out.0", "to_q", "to_v"]}
    model.add_adapter(LoraConfig(**config))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Together half as large as the projection that they change, rounded to what float16 holds.
            noise = torch.randn_like(parameter) / parameter.shape[1] ** 0.5
            parameter.data.copy_((0.5 * noise).half().float())
    # As StableDiffusionPipeline.save_lora_weights does it.
    (FIXTURES / "lora").mkdir(exist_ok=True)
    save_file({f"unet.{k}": v.half() for k, v in get_peft_model_state_dict(model).items()},
              FIXTURES / "lora" / "pytorch_lora_weights.safetensors", {
                  "lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in config.items()})})
    sample, context = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 64)
    write("lora", Denoising(model), {
        "sample": sample, "context": context, "timesteps": torch.tensor([521.0, 17.0]),
        "noise": torch.randn_like(sample),
    }, {"config": "tiny-sd/unet/config.json", "base": f"tiny-sd/unet/{UNET}"},
          "lora/pytorch_lora_weights.safetensors", lambda name: f"unet.{name.replace('.default', '')}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(4000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
