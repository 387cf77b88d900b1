"""Golden fixtures of T5's and UMT5's encoders: tiny random networks of transformers, and what they compute.

    python make_t5.py [CASE ...]

writes Fixtures/CASE as make_models.py does.
"""

import sys

import torch
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from make_models import randomize, write

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def t5_case(name, config, lengths, count, loud=1.0, drop=()):
    config.is_encoder_decoder = config.use_cache = False
    model = (UMT5EncoderModel if config.model_type == "umt5" else T5EncoderModel)(config)
    randomize(model)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(("wi_1.weight", "wo.weight")):  # the weights themselves stay within float16
                parameter.mul_(loud ** 0.5)
            if key.endswith(".q.weight"):  # scores are not scaled
                parameter.div_(config.d_kv ** 0.5)
    ids = torch.randint(2, config.vocab_size, (len(lengths), count))
    mask = (torch.arange(count)[None] < torch.tensor(lengths)[:, None]).long()
    ids = ids * mask
    states = model(ids, mask, output_hidden_states=True)
    hidden = states.last_hidden_state
    largest = max(h.abs().max().item() for h in states.hidden_states[:-1])
    print(f"{name}: the residual's largest number is {largest:.3g}")
    attention = model.encoder.block[0].layer[0].SelfAttention
    positions = torch.arange(600)
    buckets = attention._relative_position_bucket(positions[None, :] - positions[:, None]) \
        if config.model_type == "umt5" else attention._relative_position_bucket(
            positions[None, :] - positions[:, None], True, config.relative_attention_num_buckets,
            config.relative_attention_max_distance)
    state = {k: v for k, v in model.state_dict().items() if k not in drop}
    write(name, config.to_dict(), state, {
        "ids": ids.int(), "lengths": torch.tensor(lengths, dtype=torch.int32), "last_hidden_state": hidden,
        "zeroed": hidden * mask[..., None], "unmasked": model(ids).last_hidden_state,
        # The first and the last query tell all.
        "buckets": torch.stack([buckets[0], buckets[-1]]).int()})


@case
def umt5():
    """As UMT5-XXL, small: heads that are together wider than a token, a table of positions in each layer."""
    t5_case("umt5", UMT5Config(vocab_size=99, d_model=24, d_kv=6, d_ff=40, num_layers=3, num_heads=5), [9, 5, 1], 9,
            drop=("encoder.embed_tokens.weight",))


@case
def t5_relu():
    """T5 1.0, long enough for every bucket."""
    t5_case("t5_relu", T5Config(
        vocab_size=60, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, feed_forward_proj="relu",
        relative_attention_num_buckets=16, relative_attention_max_distance=40, layer_norm_epsilon=1e-5), [70, 41], 70,
        drop=("shared.weight",))


@case
def t5_silu():
    t5_case("t5_silu", T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-silu"),
        [6, 4], 6)


@case
def t5_gelu():
    t5_case("t5_gelu", T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gelu"), [6, 4], 6)


@case
def umt5_loud():
    """A residual far past float16's 65504, as trained models have it."""
    t5_case("umt5_loud", UMT5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2), [7, 4], 7,
            loud=2e5)


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(5000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
