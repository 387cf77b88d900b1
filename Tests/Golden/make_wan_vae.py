"""Golden fixtures of WAN's autoencoder: tiny random networks of diffusers, and what they compute over several chunks.

    python make_wan_vae.py [CASE ...]

writes Fixtures/CASE as make_models.py does; `tile` is the size and stride of tiles in pixels. Layouts are PyTorch's ([N, C, F, H, W]).
"""

import torch
from diffusers import AutoencoderKLWan

from make_models import CASES, case, main, model_config, randomize, write

CASES.clear()


def randomized(**config):
    model = randomize(AutoencoderKLWan(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        # So that clamping to -1...1 is seen but leaves most of the picture.
        model.decoder.conv_out.weight.mul_(0.5)
    return model


def wan_case(name, video, latent, tile, **config):
    model = randomized(**config)
    video, latent = torch.randn(*video).clamp(-1, 1), torch.randn(*latent)
    posterior = model.encode(video).latent_dist
    decoded = model.decode(latent).sample
    clamped = (decoded.abs() == 1).float().mean()
    assert 0 < clamped < 0.2, clamped
    model.enable_tiling(*[tile[0]] * 2, *[tile[1]] * 2)
    tiled = model.decode(latent).sample
    assert (tiled - decoded).abs().max() > 0.01
    mean, std = (torch.tensor(model.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    write(name, model_config(model), model.state_dict(), {
        "video": video, "mean": posterior.mean, "logvar": posterior.logvar, "latent": latent, "decoded": decoded, "tiled": tiled,
        "normalized": (latent - mean) / std, "denormalized": latent * std + mean})


@case
def wan_vae():
    """The shape of WAN 2.1: four widths, frames halved by the last two downsamplers. Three chunks in, four out."""
    wan_case("wan_vae", (1, 3, 9, 8, 24), (1, 3, 4, 3, 1), (16, 8), base_dim=4, z_dim=3, dim_mult=[1, 2, 2, 2],
             num_res_blocks=1, temperal_downsample=[False, True, True],
             latents_mean=[0.5, -1.0, 0.25], latents_std=[2.0, 0.5, 1.5])


@case
def wan_vae_narrow():
    """Two videos, one halving, a decoder of another width and more than one ResNet block a width."""
    wan_case("wan_vae_narrow", (2, 2, 13, 6, 10), (2, 4, 3, 5, 4), (6, 4), base_dim=5, decoder_base_dim=6, z_dim=4,
             dim_mult=[1, 2], num_res_blocks=2, temperal_downsample=[True], in_channels=2, out_channels=2,
             latents_mean=[0.0, 1.0, -1.0, 0.5], latents_std=[1.0, 2.0, 3.0, 0.5], scale_factor_spatial=2,
             scale_factor_temporal=2)


if __name__ == "__main__":
    main()
