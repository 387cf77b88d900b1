"""Golden losses of one batch, by PyTorch in float64: what the tasks of `langevin train` minimise beside the golden runs.

    python make_task_losses.py

writes Fixtures/training/task_losses.safetensors. Pictures are [N, C, H, W] in -1...1.
- autoencoder, of Fixtures/vae: `picture`, `noise` of the posterior, and `autoencoder`: the loss with weights 0.5 of
  differences and 0.01 of the divergence; `perceptual`, the same and 0.3 times the distance of the states of Fixtures/tiny-clip's
  image encoder.
- `deviation.NAME`: the standard deviation of each parameter of a CLIPModel of `CLIP` below that transformers starts.
"""

import json

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from make_models import FIXTURES

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Large enough that the deviations of single matrices are known to a few percent.
CLIP = {
    "projection_dim": 96,
    "text_config": {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "max_position_embeddings": 32},
    "vision_config": {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 2,
                      "image_size": 32, "patch_size": 8, "initializer_factor": 0.5},
}


def states(clip, pictures):
    shape = (3, 1, 1)
    mean, deviation = (torch.tensor(x, dtype=torch.float64).reshape(shape) for x in (MEAN, DEVIATION))
    fitting = F.interpolate(pictures, (16, 16), mode="bicubic", antialias=True)
    h = clip.vision_model((fitting * 0.5 + 0.5 - mean) / deviation).last_hidden_state
    return F.normalize(h, dim=-1)


def autoencoder():
    config = json.loads((FIXTURES / "vae/config.json").read_text())
    vae = AutoencoderKL(**{k: v for k, v in config.items() if k != "_class_name"})
    vae.load_state_dict(load_file(FIXTURES / "vae/weights.safetensors"))
    clip = CLIPModel.from_pretrained(FIXTURES / "tiny-clip").double().eval()
    vae = vae.double().eval()
    picture, noise = torch.rand(2, 3, 16, 24) * 2 - 1, torch.randn(2, 3, 8, 12)
    posterior = vae.encode(picture.double()).latent_dist
    output = vae.decode(posterior.mean + posterior.std * noise).sample
    error = output - picture
    pairs = torch.cat([error.diff(dim=-1).flatten(), error.diff(dim=-2).flatten()])
    divergence = 0.5 * (posterior.mean ** 2 + posterior.var - 1 - posterior.logvar).sum((1, 2, 3)).mean()
    loss = error.abs().mean() + error.square().mean() + 0.5 * pairs.abs().mean() + 0.01 * divergence
    distance = (states(clip, output) - states(clip, picture.double())).square().sum(-1).mean()
    print(f"divergence {divergence:.4f}, distance {distance:.4f}, loss {loss:.4f}")
    return {"picture": picture, "noise": noise, "autoencoder": loss.reshape(1).float(),
            "perceptual": (loss + 0.3 * distance).reshape(1).float()}


def deviations():
    (FIXTURES / "training/clip_start.json").write_text(json.dumps(
        {"architectures": ["CLIPModel"], "model_type": "clip", **{
            k: v if not isinstance(v, dict) else {"model_type": f"clip_{k.split('_')[0]}_model", **v}
            for k, v in CLIP.items()}}, indent=2) + "\n")
    model = CLIPModel(CLIPConfig(**CLIP))
    return {f"deviation.{name}": p.double().square().mean().sqrt().reshape(1).float()
            for name, p in model.named_parameters()}


if __name__ == "__main__":
    torch.manual_seed(7)
    with torch.no_grad():
        save_file({**autoencoder(), **deviations()}, FIXTURES / "training/task_losses.safetensors")
