"""Golden fixtures for LangevinDiffusion: diffusers' schedulers and torch's CPU generator.

    python make_samplers.py    # needs torch and diffusers; writes Fixtures/samplers/*.json

Every trajectory uses an analytic "network" that the Swift tests repeat in double precision, so that what is
compared is the samplers' arithmetic and the order in which noise is drawn.
"""

import json
import pathlib
import warnings

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.utils.torch_utils import randn_tensor

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()

OUT = pathlib.Path(__file__).parent / "Fixtures" / "samplers"
SHAPE = (2, 4, 2, 3)  # 24 numbers an image: one block of 16 and a tail
SEEDS = [42, 2**40 + 7]

CLASSES = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-a": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
    "dpmpp-2m-karras": diffusers.DPMSolverMultistepScheduler,
}

# Stable Diffusion 1.x's file.
BASE = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def network(x, t):
    x = x.double()
    return (0.5 * x + 0.2 * torch.sin(2 * x + float(t) / 100)).float()


def numbers(tensor):
    return [float(f"{v:.9g}") for v in tensor.flatten().tolist()]


def trajectory(sampler, steps, eta=0.0, strength=None, **changes):
    config = {**BASE, **changes}
    config = {key: value for key, value in config.items() if value != "absent"}
    extra = {"use_karras_sigmas": True} if sampler.endswith("karras") else {}
    scheduler = CLASSES[sampler].from_config(config, **extra)
    scheduler.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    timesteps = scheduler.timesteps
    start = 0
    if strength is None:
        latent = randn_tensor(SHAPE, generator=generators) * scheduler.init_noise_sigma
    else:
        # Image-to-image, with the autoencoder's posterior N(clean, 0.1^2).
        clean = torch.linspace(-1, 1, 48).reshape(SHAPE)
        clean = clean + 0.1 * randn_tensor(SHAPE, generator=generators)
        start = max(steps - min(int(steps * strength), steps), 0)
        timesteps = timesteps[start:]
    if hasattr(scheduler, "set_begin_index"):  # else a first timestep that occurs twice is skipped once
        scheduler.set_begin_index(start)
    if strength is not None:
        noise = randn_tensor(SHAPE, generator=generators)
        latent = scheduler.add_noise(clean, noise, timesteps[:1].repeat(SHAPE[0]))
    arguments = {"eta": eta} if sampler == "ddim" else {}
    for t in timesteps:
        output = network(scheduler.scale_model_input(latent, t), t)
        latent = scheduler.step(output, t, latent, generator=generators, **arguments).prev_sample
    assert latent.isfinite().all(), (sampler, steps, changes)
    label = " ".join([sampler, str(steps)] + [f"{k}={v}" for k, v in changes.items() if k != "trained_betas"])
    return {
        "name": label + (f" eta={eta}" if eta else "") + (f" strength={strength}" if strength else ""),
        "sampler": sampler,
        "steps": steps,
        "eta": eta,
        "strength": strength,
        "config": json.dumps(config),
        "timesteps": [float(t) for t in timesteps],
        "final": numbers(latent),
    }


def trajectories():
    variants = [(name, 0.0) for name in CLASSES] + [("ddim", 0.7), ("ddim", 1.0)]
    for name, eta in variants:
        for steps in (1, 2, 10, 25, 30, 50):
            yield trajectory(name, steps, eta)
        for prediction in ("v_prediction", "sample"):
            if (name, prediction) != ("euler-a", "sample"):  # diffusers has no such combination
                yield trajectory(name, 10, eta, prediction_type=prediction)
        for spacing in ("leading", "trailing", "linspace"):
            for offset in (0, 1):
                for one in (False, True) if name == "ddim" else (False,):
                    yield trajectory(
                        name, 10, eta, timestep_spacing=spacing, steps_offset=offset, set_alpha_to_one=one
                    )
            yield trajectory(name, 30, eta, timestep_spacing=spacing)
        yield trajectory(name, 7, eta, timestep_spacing="trailing")
        yield trajectory(name, 16, eta, timestep_spacing="trailing")
        yield trajectory(name, 10, eta, beta_schedule="linear", beta_start="absent", beta_end="absent")
        # Leading, since at timestep 999 sigma is 2e4 and what diffusers' Euler keeps in float32 of x0 + 2e4 noise
        # is off by 2e-4 from the same loop in float64.
        cosine = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "leading"}
        yield trajectory(name, 10, eta, prediction_type="v_prediction", **cosine)
        betas = [round(0.01 + 0.02 * i, 4) for i in range(20)]
        yield trajectory(name, 5, eta, num_train_timesteps=20, trained_betas=betas)
        for strength in (0.3, 0.7, 1.0):
            yield trajectory(name, 10, eta, strength)
        if eta == 1:  # here diffusers' rounding takes the root of -6e-8
            continue
        yield trajectory(
            name, 10, eta, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
        )
    for name, eta in [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)]:
        for limit in (1.0, 0.5):
            yield trajectory(name, 10, eta, clip_sample=True, clip_sample_range=limit)
        yield trajectory(name, 10, eta, clip_sample="absent")
    for variance in ("fixed_small", "fixed_small_log", "fixed_large"):
        yield trajectory("ddpm", 10, variance_type=variance)
        yield trajectory("ddpm", 10, variance_type=variance, steps_offset=0)
    yield trajectory("euler", 10, final_sigmas_type="sigma_min")
    for spacing in ("leading", "linspace"):
        yield trajectory("euler", 10, use_karras_sigmas=True, timestep_spacing=spacing)
        yield trajectory("euler", 10, use_karras_sigmas=True, sigma_min=0.05, sigma_max=8.0, timestep_spacing=spacing)
    for name in ("dpmpp-2m", "dpmpp-2m-karras"):
        for steps in (10, 20):
            yield trajectory(name, steps, final_sigmas_type="sigma_min")
            yield trajectory(name, steps, final_sigmas_type="sigma_min", lower_order_final=False)
            yield trajectory(name, steps, final_sigmas_type="sigma_min", euler_at_final=True)
        yield trajectory(
            name, 10, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1, prediction_type="v_prediction"
        )
        yield trajectory(name, 10, lambda_min_clipped=-float("inf"))
    yield trajectory("dpmpp-2m", 10, use_karras_sigmas=True)


def torch_random():
    """Several draws in sequence from one generator."""
    for seed in (0, 1, 42, 2**31, 2**32 + 5, 2**63 + 11):
        for counts in ([1, 5, 15, 16], [17, 31, 100], [3, 16, 3, 24, 1]):
            generator = torch.Generator().manual_seed(seed)
            draws = [numbers(torch.randn(n, generator=generator)) for n in counts]
            yield {"seed": str(seed), "counts": counts, "draws": draws}
    generator = torch.Generator().manual_seed(7)
    values = torch.randn(16384, generator=generator)
    yield {"seed": "7", "counts": [16384], "every": 64, "draws": [numbers(values[::64])]}


def rescaled_guidance():
    generator = torch.Generator().manual_seed(3)
    negative, positive = torch.randn((2,) + SHAPE, generator=generator)
    guided = negative + 7.5 * (positive - negative)
    return {
        "scale": 7.5,
        "rescale": 0.7,
        "negative": numbers(negative),
        "positive": numbers(positive),
        "guided": numbers(guided),
        "rescaled": numbers(rescale_noise_cfg(guided, positive, 0.7)),
    }


def write(name, content):
    with open(OUT / name, "w") as file:
        rows = content.pop("rows", None)
        head = json.dumps(content)[1:-1]
        if rows is None:
            file.write("{" + head + "}\n")
        else:
            file.write("{" + head + ', "rows": [\n' + ",\n".join(json.dumps(r) for r in rows) + "\n]}\n")


OUT.mkdir(parents=True, exist_ok=True)
made = {"torch": torch.__version__, "diffusers": diffusers.__version__}
write("trajectories.json", {**made, "shape": SHAPE, "seeds": SEEDS, "rows": list(trajectories())})
write("torch_random.json", {**made, "rows": list(torch_random())})
write("guidance.json", {**made, "shape": SHAPE, **rescaled_guidance()})
