"""The parts of a training step alone: learning rates, averages, loss weights and targets, as PyTorch, diffusers and
transformers have them. Writes Fixtures/training/parts.json; needs torch, diffusers and transformers.

A schedule of LambdaLR has rate 0 in its first step where there is a warm-up; ours begins with the second of its rates, so
that no step is lost. `rates` are LambdaLR's own, one more than there are steps.
"""

import json

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, compute_snr
from transformers.optimization import get_wsd_schedule

from make_models import FIXTURES

TIMESTEPS = [0, 1, 37, 250, 500, 831, 998, 999]


def rates(schedule, steps):
    """The rate of each step for a base of 1, and that behind the last."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = schedule(optimizer), []
    for _ in range(steps + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def learning_rates():
    cases = []
    for warm_up, total in [(0, 12), (1, 12), (5, 30), (12, 12)]:
        cases.append({"shape": "constant", "warmUp": warm_up, "total": total, "cooldown": 0.2, "rates": rates(
            lambda o: get_constant_schedule_with_warmup(o, warm_up), total)})
        cases.append({"shape": "cosine", "warmUp": warm_up, "total": total, "cooldown": 0.2, "rates": rates(
            lambda o: get_cosine_schedule_with_warmup(o, warm_up, total), total)})
    for warm_up, total, cooldown in [(0, 10, 0.2), (5, 30, 0.5), (3, 20, 0.0), (0, 8, 1.0)]:
        decay = round(cooldown * total)
        cases.append({"shape": "linear-cooldown", "warmUp": warm_up, "total": total, "cooldown": cooldown,
                      "rates": rates(lambda o: get_wsd_schedule(
                          o, warm_up, decay, num_training_steps=total, decay_type="linear"), total)})
    return cases


def averages():
    """Decays of the first steps, and what they make of values 0, 1, 4, 9, ..."""
    cases = []
    for decay in [0.0, 0.5, 0.95, 0.9999]:
        parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        ema, found = EMAModel([parameter], decay=decay), {"decays": [], "averages": []}
        for step in range(1, 41):
            with torch.no_grad():
                parameter.fill_(step * step)
            ema.step([parameter])
            found["decays"].append(ema.cur_decay_value)
            found["averages"].append(ema.shadow_params[0].item())
        cases.append({"decay": decay, **found})
    return cases


def scheduler(name):
    betas = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    if name == "linear":
        betas = dict(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return DDPMScheduler(**betas, rescale_betas_zero_snr=name == "zero-terminal")


def configuration(given):
    """scheduler_config.json."""
    return json.loads(given.to_json_string())


def diffusion(name):
    """Weights, inputs and targets of all TIMESTEPS. `clean` and `noise` have a row a timestep."""
    given = scheduler(name)
    timesteps = torch.tensor(TIMESTEPS)
    clean, noise = torch.randn(2, len(TIMESTEPS), 6)
    ratio = compute_snr(given, timesteps).double()
    weights = {}
    for gamma in [1.0, 5.0]:
        least = ratio.clamp(max=gamma)
        # 0 / 0 at no signal at all is not diffusers' to say.
        weights[str(gamma)] = {"epsilon": torch.where(ratio > 0, least / ratio, 1).tolist(),
                               "v_prediction": (least / (ratio + 1)).tolist(), "sample": least.tolist()}
    return {"name": name, "config": configuration(given), "timesteps": TIMESTEPS, "clean": clean.flatten().tolist(),
            "noise": noise.flatten().tolist(), "weights": weights,
            "noisy": given.add_noise(clean, noise, timesteps).flatten().tolist(),
            "velocity": given.get_velocity(clean, noise, timesteps).flatten().tolist()}


def flow(shift):
    """Of a few of its levels."""
    given = FlowMatchEulerDiscreteScheduler(shift=shift)
    rows = torch.tensor([0, 250, 700, 999])
    clean, noise = torch.randn(2, len(rows), 6)
    return {"config": configuration(given), "places": ((1000 - rows).double() / 1000).tolist(),
            "timesteps": given.timesteps[rows].tolist(), "clean": clean.flatten().tolist(),
            "noise": noise.flatten().tolist(),
            "noisy": given.scale_noise(clean, given.timesteps[rows], noise).flatten().tolist(),
            "target": (noise - clean).flatten().tolist()}


def main():
    torch.manual_seed(7100)
    parts = {"rates": learning_rates(), "averages": averages(),
             "chains": [diffusion(name) for name in ["linear", "scaled", "zero-terminal"]],
             "flows": [flow(shift) for shift in [1.0, 3.0]]}
    path = FIXTURES / "training" / "parts.json"
    path.write_text(json.dumps(parts) + "\n")
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
