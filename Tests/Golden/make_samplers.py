"""Golden fixtures for LangevinDiffusion: diffusers' schedulers and torch's CPU generator.

    python make_samplers.py    # needs torch and diffusers; writes Fixtures/samplers/*.json

Every trajectory uses an analytic "network" that the Swift tests repeat in double precision, so that what is
compared is the samplers' arithmetic and the order in which noise is drawn.
"""

import importlib
import json
import math
import pathlib
import sys
import types
import warnings

import diffusers
import numpy
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.utils.torch_utils import randn_tensor

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()

# Only its noise needs torchsde, which is replaced below.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
DPMSolverSDEScheduler = importlib.import_module(
    "diffusers.schedulers.scheduling_dpmsolver_sde"
).DPMSolverSDEScheduler

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
    "heun": diffusers.HeunDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "dpmpp-2m-sde": diffusers.DPMSolverMultistepScheduler,
    "dpmpp-sde": DPMSolverSDEScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "pndm": diffusers.PNDMScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
    "unclip": diffusers.UnCLIPScheduler,
}
FIRST = ("ddpm", "ddim", "euler", "euler-a", "dpmpp-2m", "dpmpp-2m-karras")

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
    y = x.double()
    return (0.5 * y + 0.2 * torch.sin(2 * y + float(t) / 100)).to(x.dtype)


def numbers(tensor):
    return [float(f"{v:.9g}") for v in tensor.flatten().tolist()]


def widened(x, t):
    """The network's output and its variance's mix, within -1 and 1."""
    return torch.cat([network(x, t), torch.sin(3 * x.double() + float(t) / 50).float()], dim=1)


class Brownian:
    """The noise of DPMSolverSDEScheduler from the tests' own generators: increments of one motion, of which each step
    asks for the first half and then for the whole."""

    def __init__(self, generators):
        self.generators = generators
        self.half = None

    def __call__(self, sigma, sigma_next):
        drawn = randn_tensor(SHAPE, generator=self.generators)
        if self.half is None:
            self.half = (float(sigma_next), drawn)
            return drawn
        middle, first = self.half
        self.half = None
        whole = math.sqrt(sigma - middle) * first + math.sqrt(middle - sigma_next) * drawn
        return whole / math.sqrt(sigma - sigma_next)


def trajectory(sampler, steps, eta=0.0, strength=None, levels=None, spacing=None, learned=False, cls=None, **changes):
    config = {**BASE, **changes}
    config = {key: value for key, value in config.items() if value != "absent"}
    cls = cls or CLASSES[sampler]
    extra = {"use_karras_sigmas": True} if sampler.endswith("karras") else {}
    if sampler == "dpmpp-2m-sde":
        extra["algorithm_type"] = "sde-dpmsolver++"
    if spacing in ("karras", "exponential", "beta"):
        extra[f"use_{spacing}_sigmas"] = True
    elif spacing:
        extra["timestep_spacing"] = spacing
    scheduler = cls.from_config(config, **extra)
    if config.get("rescale_betas_zero_snr") and sampler in ("heun", "lms", "dpmpp-sde"):
        # Their classes do not read it; the noise is the model's all the same.
        scheduler.alphas_cumprod = diffusers.EulerDiscreteScheduler.from_config(config).alphas_cumprod
    if sampler == "unclip":
        # In float32 beta and 1 - alpha of timestep 0 differ by 5e-4, so that the last step, which is to return the
        # denoised latent, multiplies it by as much.
        scheduler.betas[0] = 1 - scheduler.alphas_cumprod[0]
    # A flow's classes shift what they are given; without a shift it stays.
    if sampler == "unipc" and levels:
        scheduler.set_timesteps(sigmas=numpy.array(levels["sigmas"]))
    else:
        scheduler.set_timesteps(**(levels or {"num_inference_steps": steps}))
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    timesteps = scheduler.timesteps
    plms = sampler == "pndm" and config["skip_prk_steps"]
    order = getattr(scheduler, "order", 1)
    start = 0
    if strength is None:
        latent = randn_tensor(SHAPE, generator=generators) * getattr(scheduler, "init_noise_sigma", 1)
    else:
        # Image-to-image, with the autoencoder's posterior N(clean, 0.1^2).
        clean = torch.linspace(-1, 1, 48).reshape(SHAPE)
        clean = clean + 0.1 * randn_tensor(SHAPE, generator=generators)
        start = max(steps - min(int(steps * strength), steps), 0) * order
        timesteps = timesteps[start:]
        if plms and start > 0:  # a start of its own, where the pipeline would begin in the middle of one
            kept = scheduler.timesteps[start + 1 :]
            timesteps = torch.cat([kept[:2], kept[1:]])
    if hasattr(scheduler, "set_begin_index"):  # else a first timestep that occurs twice is skipped once
        scheduler.set_begin_index(start)
    if strength is not None:
        noise = randn_tensor(SHAPE, generator=generators)
        if sampler == "unclip" or hasattr(scheduler, "add_noise"):
            latent = scheduler.add_noise(clean, noise, timesteps[:1].repeat(SHAPE[0]))
        else:
            latent = scheduler.scale_noise(clean, timesteps[:1], noise)
    if sampler == "dpmpp-sde":
        scheduler.noise_sampler = Brownian(generators)
    arguments = {"eta": eta} if sampler in ("ddim", "tcd") else {}
    if sampler not in ("heun", "lms", "dpmpp-sde", "unipc", "pndm"):
        arguments["generator"] = generators
    taken = 0
    if config.get("rescale_betas_zero_snr") and sampler == "heun":
        # From noise alone Langevin takes Euler's step: Heun's multiplies the second guess by 200.
        first = diffusers.EulerDiscreteScheduler.from_config(config)
        first.set_timesteps(steps)
        scaled = first.scale_model_input(latent, timesteps[0])
        latent = first.step(network(scaled, timesteps[0]), timesteps[0], latent).prev_sample
        taken = 2  # both of Heun's stages
        scheduler.set_begin_index(taken)
    for index, t in enumerate(timesteps):
        if index < taken:
            continue
        scaled = scheduler.scale_model_input(latent, t) if hasattr(scheduler, "scale_model_input") else latent
        output = (widened if learned else network)(scaled, t)
        if learned:  # the noise is drawn of the output's shape, which is halved only afterwards
            assert sampler in ("ddpm", "unclip")
        if sampler == "unclip":
            arguments["prev_timestep"] = int(timesteps[index + 1]) if index + 1 < len(timesteps) else None
        latent = scheduler.step(output, t, latent, **arguments).prev_sample
    assert latent.isfinite().all(), (sampler, steps, changes)
    times = [float(t) for t in timesteps]
    if order == 2:
        times = times[::2]
    if sampler == "pndm":
        times = list(dict.fromkeys(times)) if plms else [float(t) for t in scheduler._timesteps[::-1]]
    said = {**changes, **({"spacing": spacing} if spacing else {}), **(levels or {})}
    label = " ".join([sampler, str(steps)] + [f"{k}={v}" for k, v in said.items() if k != "trained_betas"])
    row = {
        "name": label + (f" eta={eta}" if eta else "") + (f" strength={strength}" if strength else ""),
        "sampler": sampler,
        "steps": steps,
        "eta": eta,
        "strength": strength,
        "config": json.dumps(config),
        "timesteps": times,
        "final": numbers(latent),
    }
    if spacing:
        row["spacing"] = spacing
    if learned:
        row["learned"] = True
    return row | (levels or {})


def trajectories():
    variants = [(name, 0.0) for name in FIRST] + [("ddim", 0.7), ("ddim", 1.0)]
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


def solvers():
    """What came after: Heun, LMS, DPM++ SDE, DPM++ 2M SDE, UniPC, PNDM and LCM."""
    rescaled = {
        "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"
    }
    for name in ("heun", "lms", "dpmpp-sde", "dpmpp-2m-sde", "unipc"):
        for steps in (1, 2, 10, 25):
            yield trajectory(name, steps)
        yield trajectory(name, 10, prediction_type="v_prediction")
        if name != "dpmpp-sde":  # diffusers has no such combination
            yield trajectory(name, 10, prediction_type="sample")
        for spacing in ("leading", "trailing", "linspace"):
            yield trajectory(name, 12, timestep_spacing=spacing)
        for spacing in ("karras", "exponential", "beta"):
            yield trajectory(name, 10, **{f"use_{spacing}_sigmas": True})
        cosine = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "leading"}
        yield trajectory(name, 10, prediction_type="v_prediction", **cosine)
        yield trajectory(name, 10, **rescaled)
        if name != "lms":  # diffusers' takes weights of slopes that it does not have
            yield trajectory(name, 10, strength=0.7)
    yield trajectory("heun", 10, clip_sample=True, clip_sample_range=0.8)
    for steps in (10, 20):
        yield trajectory("dpmpp-2m-sde", steps, final_sigmas_type="sigma_min")
        yield trajectory("dpmpp-2m-sde", steps, final_sigmas_type="sigma_min", euler_at_final=True)
    for order in (1, 2, 3):
        for kind in ("bh1", "bh2"):
            for final in (True, False):
                settings = {"solver_type": kind, "solver_order": order, "lower_order_final": final}
                for x0 in (True, False):
                    yield trajectory("unipc", 8, final_sigmas_type="sigma_min", predict_x0=x0, **settings)
        yield trajectory("unipc", 20, solver_order=order)
    yield trajectory("unipc", 10, disable_corrector=[0, 1, 4])
    for steps in (2, 10, 25, 50):
        yield trajectory("pndm", steps)
    yield trajectory("pndm", 10, set_alpha_to_one=True)
    yield trajectory("pndm", 10, strength=0.7)
    for steps in (4, 5, 20, 50):
        yield trajectory("pndm", steps, skip_prk_steps=False)
    for steps in (1, 2, 4, 8, 13):
        yield trajectory("lcm", steps)
    yield trajectory("lcm", 4, prediction_type="v_prediction")
    yield trajectory("lcm", 4, strength=0.5)
    yield trajectory("lcm", 6, original_inference_steps=30, timestep_scaling=0.01)
    yield trajectory("lcm", 4, clip_sample=True)
    yield trajectory("lcm", 4, **rescaled)
    for name in ("ddpm", "ddim", "dpmpp-2m", "dpmpp-2m-sde", "unipc", "lcm"):
        limits = {"dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}
        yield trajectory(name, 8, thresholding=True, **limits)


def flows():
    euler = diffusers.FlowMatchEulerDiscreteScheduler
    heun = diffusers.FlowMatchHeunDiscreteScheduler
    for sampler, cls in (("euler", euler), ("heun", heun)):
        for steps in (1, 2, 10, 28):
            for shift in (1.0, 3.0):
                yield trajectory(sampler, steps, cls=cls, _class_name=cls.__name__, shift=shift)
    yield trajectory("euler", 10, strength=0.6, cls=euler, _class_name=euler.__name__, shift=3.0)
    for spacing in ("karras", "exponential", "beta"):
        changes = {f"use_{spacing}_sigmas": True, "shift": 3.0}
        yield trajectory("euler", 10, cls=euler, _class_name=euler.__name__, **changes)
    given = {"sigmas": [1.0, 0.8, 0.55, 0.3, 0.1]}
    yield trajectory("euler", 5, levels=given, cls=euler, _class_name=euler.__name__)
    wan = {
        "_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True
    }
    for sampler in ("unipc", "dpmpp-2m", "dpmpp-2m-sde"):
        for steps in (2, 10, 25, 50):
            for shift in (1.0, 3.0, 5.0):
                yield trajectory(sampler, steps, flow_shift=shift, **wan)
    yield trajectory("unipc", 10, solver_order=3, flow_shift=3.0, **wan)
    yield trajectory("unipc", 10, use_karras_sigmas=True, **wan)
    yield trajectory("unipc", 5, levels=given, **wan)


def unclip():
    """Karlo's prior, its decoder and its super-resolution; DDPM with a learned variance."""
    for steps in (2, 7, 25):
        prior = {"prediction_type": "sample", "clip_sample": True, "clip_sample_range": 5.0}
        own = {"_class_name": "UnCLIPScheduler", "beta_schedule": "squaredcos_cap_v2", **prior}
        yield trajectory("unclip", steps, variance_type="fixed_small_log", **own)
        own |= {"prediction_type": "epsilon", "clip_sample_range": 1.0}
        yield trajectory("unclip", steps, learned=True, variance_type="learned_range", **own)
    for steps in (1, 10, 50):
        for changes in ({}, {"steps_offset": 0}, {"timestep_spacing": "trailing", "clip_sample": True}):
            yield trajectory("ddpm", steps, learned=True, variance_type="learned_range", **changes)


def choices():
    """Levels that the user chooses over the file's."""
    for name in ("euler", "heun", "lms", "dpmpp-sde", "dpmpp-2m", "dpmpp-2m-sde", "unipc"):
        for spacing in ("leading", "trailing", "linspace", "karras", "exponential", "beta"):
            yield trajectory(name, 9, spacing=spacing)
    for name in ("euler", "dpmpp-2m"):
        for spacing in ("exponential", "beta"):
            yield trajectory(name, 10, final_sigmas_type="sigma_min", spacing=spacing)
    for name in ("ddpm", "ddim", "euler-a", "pndm"):
        for spacing in ("leading",) if name == "pndm" else ("leading", "trailing", "linspace"):
            yield trajectory(name, 9, spacing=spacing)
    sigmas = {"sigmas": [14.6, 7.0, 3.0, 1.0, 0.3, 0.0]}
    yield trajectory("euler", 5, levels=sigmas)
    times = {"timesteps": [999, 850, 500, 259, 39]}
    for name in ("euler", "heun", "dpmpp-2m", "dpmpp-2m-sde", "ddpm", "lcm"):
        yield trajectory(name, 5, levels=times)


def consistency():
    """TCD."""
    for eta in (0.0, 0.3, 1.0):
        for steps in (1, 2, 4, 8, 13, 50):
            yield trajectory("tcd", steps, eta)
        yield trajectory("tcd", 4, eta, prediction_type="v_prediction")
        yield trajectory("tcd", 4, eta, prediction_type="sample")
        yield trajectory("tcd", 4, eta, strength=0.5)
        yield trajectory("tcd", 6, eta, original_inference_steps=30)
        yield trajectory("tcd", 4, eta, rescale_betas_zero_snr=True, prediction_type="v_prediction")
        yield trajectory("tcd", 5, eta, levels={"timesteps": [999, 850, 500, 259, 39]})


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
for name, rows in (("solvers", solvers), ("flows", flows), ("unclip", unclip), ("choices", choices),
                   ("consistency", consistency)):
    write(f"{name}.json", {**made, "shape": SHAPE, "seeds": SEEDS, "rows": list(rows())})
write("torch_random.json", {**made, "rows": list(torch_random())})
write("guidance.json", {**made, "shape": SHAPE, **rescaled_guidance()})
