"""Golden fixtures of unCLIP's networks: prior, text projection and image normalizer of diffusers, tiny and random.

    python make_unclip.py [CASE ...]

writes Fixtures/CASE/{config.json, weights.safetensors, io.safetensors} beside this file, as make_models.py does.
"""

import sys

import torch
from diffusers import PriorTransformer
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from make_models import model_config, randomize, write

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def randomize_prior(model):
    """A learned query and positions of the size of tokens, and a deviation that is positive."""
    randomize(model)
    for name in ("positional_embedding", "prd_embedding"):
        if getattr(model, name) is not None:
            getattr(model, name).copy_(0.5 * torch.randn_like(getattr(model, name)))
    model.clip_std.copy_(0.5 + torch.rand_like(model.clip_std))
    model.clip_mean.copy_(0.3 * torch.randn_like(model.clip_mean))
    return model


def prior_case(name, x, embedding, text=None, mask=None, **config):
    model = randomize_prior(PriorTransformer(**config))
    timesteps = torch.tensor([958.0, 13.0])
    output = model(x, timesteps, embedding, text, mask).predicted_image_embedding
    io = {"sample": x, "timesteps": timesteps, "embedding": embedding, "output": output,
          "post_processed": model.post_process_latents(output)}
    if text is not None:
        io["text"] = text
    if mask is not None:
        io["mask"] = mask.to(torch.int32)
    write(name, model_config(model), model.state_dict(), io)


@case
def prior_karlo():
    """Two prompts of different lengths; the padding is not attended to."""
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    prior_case("prior_karlo", torch.randn(2, 12), torch.randn(2, 12), torch.randn(2, 7, 12), mask,
               num_attention_heads=4, attention_head_dim=8, num_layers=3, embedding_dim=12, num_embeddings=7)


@case
def prior_sequence():
    """Shap-E's variant: a sequence of noisy tokens, several conditions, no text, no query, no mask."""
    prior_case("prior_sequence", torch.randn(2, 6, 10), torch.randn(2, 3, 14), num_attention_heads=2,
               attention_head_dim=8, num_layers=2, embedding_dim=10, num_embeddings=6, additional_embeddings=0,
               time_embed_act_fn="gelu", norm_in_type="layer", embedding_proj_norm_type="layer",
               encoder_hid_proj_type=None, added_emb_type=None, time_embed_dim=40, embedding_proj_dim=14,
               clip_embed_dim=20)


@case
def prior_padded():
    """Fewer positions than tokens: the conditions in front and the query behind get none."""
    prior_case("prior_padded", torch.randn(2, 5, 10), torch.randn(2, 10), num_attention_heads=2,
               attention_head_dim=8, num_layers=1, embedding_dim=10, num_embeddings=5, additional_embeddings=0,
               encoder_hid_proj_type=None)


@case
def text_proj():
    model = randomize(UnCLIPTextProjModel(
        clip_extra_context_tokens=3, clip_embeddings_dim=12, time_embed_dim=20, cross_attention_dim=16))
    model.learned_classifier_free_guidance_embeddings.copy_(torch.randn(12))
    image, prompt, text = torch.randn(2, 12), torch.randn(4, 12), torch.randn(4, 5, 12)
    io = {"image": image, "prompt": prompt, "text": text}
    for name, rows, guided in (("guided", slice(0, 4), True), ("plain", slice(2, 4), False)):
        context, time = model(
            image_embeddings=image, prompt_embeds=prompt[rows], text_encoder_hidden_states=text[rows],
            do_classifier_free_guidance=guided)
        io |= {f"{name}.context": context, f"{name}.time": time}
    write("text_proj", model_config(model), model.state_dict(), io)


@case
def image_normalizer():
    model = StableUnCLIPImageNormalizer(embedding_dim=16)
    model.mean.copy_(torch.randn(1, 16))
    model.std.copy_(0.3 + torch.rand(1, 16))
    x = torch.randn(3, 16)
    level = get_timestep_embedding(torch.tensor([250] * 3), 16, flip_sin_to_cos=True, downscale_freq_shift=0)
    write("image_normalizer", model_config(model), model.state_dict(), {
        "sample": x, "scaled": model.scale(x), "unscaled": model.unscale(x), "labels": torch.cat((x, level), 1)})


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(4000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
