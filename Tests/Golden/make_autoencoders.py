"""Golden fixtures of the small autoencoders: tiny random networks of diffusers, and what they compute.

    python make_autoencoders.py [CASE ...]

writes Fixtures/CASE as make_models.py does.
"""

import torch
from diffusers import AutoencoderTiny

import make_models
from make_models import case, model_config, randomize, write

make_models.CASES.clear()


@case
def vae_tiny():
    model = randomize(AutoencoderTiny(
        encoder_block_out_channels=(12,) * 3, decoder_block_out_channels=(16,) * 4, num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(2, 1, 3, 1), latent_channels=5, scaling_factor=0.5))
    picture, latent = torch.rand(2, 3, 12, 16) * 2 - 1, 3 * torch.randn(2, 5, 4, 3)
    write("vae_tiny", model_config(model), model.state_dict(), {
        "picture": picture, "encoded": model.encode(picture).latents,
        "latent": latent, "decoded": model.decode(latent).sample})


if __name__ == "__main__":
    make_models.main()
