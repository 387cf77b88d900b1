"""Golden gradients of single operations, and of AdamW and clipping.

    python make_operation_gradients.py

writes Fixtures/operation_gradients.safetensors and .json. PyTorch computes in float64 from float32 inputs and rounds at
the end; every rule that is smooth there is also checked against differences (torch.autograd.gradcheck).

A case of `operations` has a name, the operation in the JSON of Langevin's `Operation`, which inputs have gradients
(`gradients`), and how far PyTorch's float32 is off (`float32`: output first, max |a - b| / max |b| of each). Its tensors
are NAME.input.I, NAME.output, NAME.cotangent and NAME.gradient.I, that of sum(output * cotangent). Layouts are
Langevin's: pictures [N, H, W, C], a convolution's weight [taps * C, O] with the taps outermost, queries [N, T, C].
At a kink a derivative of abs is 0, and the equal extrema of minimum, maximum and reduce share theirs evenly.

A case of `updates` is torch.optim.AdamW: NAME.state.0 [4, ...] is value, mean, square and average before the first
step, NAME.gradient.K and NAME.scale.K [1] are given to step K = 1, 2, ..., NAME.state.K is what it leaves.
    g = scale gradient;  m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2
    p' = p - rate (m' / (1 - b1^K) / (sqrt(v' / (1 - b2^K)) + epsilon) + decay p);  a' = d a + (1 - d) p'
A case of `clippings` has gradients NAME.gradient.I and what torch.nn.utils.clip_grad_norm_ makes of them: the norm of
all, and the scale min(1, maximum / (norm + 1e-6)). Constants are float32 numbers, written to all digits.
"""

import json

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make_models import FIXTURES

TENSORS, OPERATIONS, UPDATES, CLIPPINGS = {}, [], [], []
ACTIVATIONS = {
    "identity": lambda x: x, "silu": F.silu, "gelu": F.gelu, "geluTanh": lambda x: F.gelu(x, approximate="tanh"),
    "quickGelu": lambda x: x * torch.sigmoid(constant(1.702) * x)}


def constant(x):
    return float(numpy.float32(x))


def store(name, x):
    TENSORS[name] = x.detach().to(torch.int32 if not x.is_floating_point() else torch.float32).contiguous().clone()


def case(name, operation, function, *inputs, fixed=(), kinked=False):
    """`function` of inputs in Langevin's layout; those of the indices `fixed`, and integers, have no gradient."""
    differentiable = [x.is_floating_point() and i not in fixed for i, x in enumerate(inputs)]

    def run(dtype, cotangent=None):
        given = [x.to(dtype).requires_grad_(d) if x.is_floating_point() else x for x, d in zip(inputs, differentiable)]
        output = function(*given)
        if cotangent is None:
            cotangent = torch.randn(output.shape)
        leaves = [x for x, d in zip(given, differentiable) if d]
        return output, cotangent, torch.autograd.grad(output, leaves, cotangent.to(dtype))

    output, cotangent, gradients = run(torch.float64)
    if not kinked:
        given = [x.double().requires_grad_(d) if x.is_floating_point() else x for x, d in zip(inputs, differentiable)]
        assert torch.autograd.gradcheck(function, given, atol=1e-6, rtol=1e-4), name
    exact = [output, *gradients]
    output32, _, gradients32 = run(torch.float32, cotangent)

    def distance(a, b):
        difference, scale = (a.double() - b).abs().max().item(), b.abs().max().item()
        return float(f"{difference / scale if scale else difference:.2g}")

    OPERATIONS.append({"name": name, "operation": operation, "gradients": differentiable,
                       "float32": [distance(a, b) for a, b in zip([output32, *gradients32], exact)]})
    for index, x in enumerate(inputs):
        store(f"{name}.input.{index}", x)
    store(f"{name}.output", output)
    store(f"{name}.cotangent", cotangent)
    indices = [i for i, d in enumerate(differentiable) if d]
    for index, gradient in zip(indices, gradients):
        store(f"{name}.gradient.{index}", gradient)


# Products

def epilogue(bias=False, image=False, residual=False, activation="identity"):
    return {"bias": bias, "perImage": image, "residual": residual, "activation": activation}


def matmul(name, a, b, transpose_left=False, transposed=False, scale=1.0, **more):
    scale, ending = constant(scale), epilogue(**more)

    def function(a, b, *rest):
        y = scale * (a.mT if transpose_left else a) @ (b.mT if transposed else b)
        for x in rest:
            y = y + x
        return ACTIVATIONS[ending["activation"]](y)

    columns = b.shape[-2] if transposed else b.shape[-1]
    rows = a.shape[-1] if transpose_left else a.shape[-2]
    rest = [torch.randn(columns)] if ending["bias"] else []
    rest += [torch.randn(*a.shape[:-2], rows, columns)] if ending["residual"] else []
    operation = {"transposeLeft": transpose_left, "right": {"transposed" if transposed else "rowMajor": {}},
                 "scale": scale, "epilogue": ending}
    case(f"matmul_{name}", {"matmul": {"_0": operation}}, function, a, b, *rest)


def products():
    for left in (False, True):
        for right in (False, True):
            matmul(f"{'transposed' if left else 'plain'}_{'transposed' if right else 'plain'}",
                   torch.randn(*((6, 5) if left else (5, 6))), torch.randn(*((3, 6) if right else (6, 3))),
                   left, right, scale=0.3)
            matmul(f"batch_{'transposed' if left else 'plain'}_{'transposed' if right else 'plain'}",
                   torch.randn(2, *((4, 3) if left else (3, 4))), torch.randn(2, *((5, 4) if right else (4, 5))),
                   left, right)
    matmul("shared_right", torch.randn(2, 3, 4), torch.randn(4, 5), bias=True)
    matmul("shared_transposed_right", torch.randn(2, 3, 4), torch.randn(5, 4), transposed=True, residual=True)
    for activation in ACTIVATIONS:
        matmul(f"ending_{activation}", torch.randn(3, 4), torch.randn(4, 5), scale=0.7, bias=True, residual=True,
               activation=activation)


def convolution(name, size, kernel, stride=1, padding=(0, 0, 0, 0), channels=3, outputs=4, **more):
    """Padding is top, left, bottom, right."""
    (height, width), (top, left, bottom, right), ending = kernel, padding, epilogue(**more)

    def function(x, weight, *rest):
        kernels = weight.reshape(height, width, channels, outputs).permute(3, 2, 0, 1)
        y = F.conv2d(F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom)), kernels, stride=stride)
        y = y.permute(0, 2, 3, 1)
        for r in rest:
            y = y + (r[:, None, None, :] if r.dim() == 2 else r)
        return ACTIVATIONS[ending["activation"]](y)

    x, weight = torch.randn(2, *size, channels), torch.randn(height * width * channels, outputs)
    shape = function(x, weight).shape if not any(ending[k] for k in ("bias", "perImage", "residual")) else None
    shape = shape or F.conv2d(torch.zeros(2, 1, size[0] + top + bottom, size[1] + left + right),
                              torch.zeros(1, 1, height, width), stride=stride).shape
    rest = [torch.randn(outputs)] if ending["bias"] else []
    rest += [torch.randn(2, outputs)] if ending["perImage"] else []
    rest += [torch.randn(2, *shape[2:4], outputs)] if ending["residual"] else []
    operation = {"kernel": {"height": height, "width": width}, "stride": stride,
                 "padding": {"top": top, "left": left, "bottom": bottom, "right": right},
                 "weight": {"rowMajor": {}}, "epilogue": ending}
    case(f"conv2d_{name}", {"conv2d": {"_0": operation}}, function, x, weight, *rest)


def convolutions():
    one = (1, 1, 1, 1)
    convolution("1x1", (3, 4), (1, 1))
    convolution("1x1_stride_2", (4, 5), (1, 1), 2)
    convolution("3x3", (5, 4), (3, 3), padding=one)
    convolution("3x3_unpadded", (5, 4), (3, 3))
    # The rows that no window of a stride sees: (H + top + bottom - k) mod stride of them.
    convolution("3x3_stride_2_even", (6, 6), (3, 3), 2, one)
    convolution("3x3_stride_2_odd", (5, 7), (3, 3), 2, one)
    convolution("3x3_stride_2_below", (6, 4), (3, 3), 2, (0, 0, 1, 1))
    convolution("3x3_stride_2_below_odd", (5, 7), (3, 3), 2, (0, 0, 1, 1))
    convolution("3x3_stride_2_unpadded", (6, 7), (3, 3), 2)
    convolution("3x3_stride_3", (8, 7), (3, 3), 3, (0, 1, 0, 0))
    convolution("2x3", (4, 5), (2, 3), padding=(1, 0, 0, 2))
    convolution("3x2_stride_2", (6, 5), (3, 2), 2, (1, 1, 0, 0))
    convolution("patches", (4, 8), (4, 4), 4)
    convolution("wide_padding", (3, 3), (2, 2), padding=(3, 0, 1, 2))
    convolution("ending", (4, 3), (3, 3), padding=one, bias=True, image=True, residual=True, activation="silu")
    convolution("ending_stride_2", (4, 5), (3, 3), 2, one, bias=True, image=True)


# Attention

def attention(name, n, t, s, heads, width, causal=False, mask=None, loud=1.0):
    scale = constant(width ** -0.5)

    def function(q, k, v, mask=None):
        q, k, v = (x.unflatten(-1, (heads, width)).transpose(1, 2) for x in (q, k, v))
        if mask is not None and mask.dim() == 3:
            mask = mask[:, None]
        if causal:
            hidden = torch.ones(t, s, dtype=torch.bool).triu(1)
            mask = torch.zeros(t, s, dtype=q.dtype) if mask is None else mask
            mask = mask.masked_fill(hidden, -torch.inf)
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2).flatten(2)

    operands = [loud * torch.randn(n, t, heads * width), torch.randn(n, s, heads * width),
                torch.randn(n, s, heads * width)]
    operation = {"heads": heads, "scale": scale, "causal": causal, "mask": mask is not None}
    case(f"attention_{name}", {"attention": {"_0": operation}}, function, *operands,
         *([] if mask is None else [mask]), fixed=(3,))


def attentions():
    attention("self", 2, 5, 5, 2, 4)
    attention("cross", 2, 4, 7, 2, 3)
    attention("one_key", 1, 3, 1, 2, 4)
    attention("one_head", 1, 4, 5, 1, 5)
    attention("loud", 1, 5, 6, 2, 4, loud=12.0)
    attention("causal", 2, 6, 6, 2, 4, causal=True)
    attention("mask", 2, 3, 5, 2, 4, mask=torch.randn(3, 5))
    masks = torch.randn(2, 4, 6)
    masks[0, :, 4:] = -10_000
    masks[1, :, 2:] = -10_000
    attention("mask_each", 2, 4, 6, 2, 4, mask=masks)
    attention("mask_causal", 2, 4, 4, 2, 3, mask=torch.randn(2, 4, 4), causal=True)


# Norms

def group_norm(name, x, groups, activation="identity", epsilon=1e-5):
    epsilon = constant(epsilon)

    def function(x, gamma, beta):
        return ACTIVATIONS[activation](F.group_norm(x.movedim(-1, 1), groups, gamma, beta, epsilon)).movedim(1, -1)

    operation = {"groups": groups, "epsilon": epsilon, "activation": activation}
    channels = x.shape[-1]
    case(f"group_norm_{name}", {"groupNorm": {"_0": operation}}, function,
         x, 1 + 0.3 * torch.randn(channels), 0.5 * torch.randn(channels))


def layer_norm(name, x, affine, epsilon=1e-5):
    epsilon = constant(epsilon)
    width = x.shape[-1]
    rest = [1 + 0.3 * torch.randn(width), 0.5 * torch.randn(width)] if affine else []
    case(f"layer_norm_{name}", {"layerNorm": {"_0": {"epsilon": epsilon, "affine": affine}}},
         lambda x, *rest: F.layer_norm(x, (width,), *rest, eps=epsilon), x, *rest)


def rms_norm(name, x, epsilon=1e-6):
    epsilon = constant(epsilon)
    width = x.shape[-1]
    case(f"rms_norm_{name}", {"rmsNorm": {"epsilon": epsilon}},
         lambda x, gamma: F.rms_norm(x, (width,), gamma, epsilon), x, 1 + 0.3 * torch.randn(width))


def norms():
    for activation in ("identity", "silu"):
        group_norm(activation, torch.randn(2, 3, 4, 8), 4, activation)
        group_norm(f"single_channels_{activation}", torch.randn(2, 5, 6), 6, activation)
        group_norm(f"one_group_{activation}", torch.randn(1, 3, 3, 6), 1, activation)
        group_norm(f"no_pixels_{activation}", torch.randn(3, 12), 3, activation)
        group_norm(f"shifted_{activation}", torch.randn(2, 4, 4, 6) + 20, 3, activation)
    group_norm("large_epsilon", torch.randn(2, 7, 6), 2, epsilon=0.5)
    for affine, kind in ((True, "affine"), (False, "plain")):
        layer_norm(kind, torch.randn(2, 3, 7), affine)
        layer_norm(f"{kind}_shifted", torch.randn(3, 8) + 20, affine)
        layer_norm(f"{kind}_large_epsilon", torch.randn(4, 5), affine, epsilon=0.5)
    rms_norm("rows", torch.randn(2, 3, 7))
    rms_norm("shifted", torch.randn(3, 8) + 20)
    rms_norm("large_epsilon", torch.randn(4, 5), 0.5)


# Element by element

UNARY = {
    "silu": F.silu, "gelu": F.gelu, "gelu_tanh": ACTIVATIONS["geluTanh"], "quick_gelu": ACTIVATIONS["quickGelu"],
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "sin": torch.sin, "cos": torch.cos, "square": torch.square, "abs": torch.abs,
    "negate": torch.neg, "reciprocal": torch.reciprocal}
BINARY = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div,
          "minimum": torch.minimum, "maximum": torch.maximum}
REDUCE = {"sum": torch.sum, "mean": torch.mean, "minimum": torch.amin, "maximum": torch.amax}


def elements():
    wide = torch.cat((torch.linspace(-6, 6, 25), torch.tensor([-30.0, -12.0, -9.0, 9.0, 12.0, 30.0])))
    positive = torch.cat((torch.linspace(0.1, 6, 20), torch.tensor([0.01, 40.0])))
    signed = torch.cat((-positive, positive))
    domain = {"exp": torch.linspace(-8, 8, 33), "log": positive, "sqrt": positive, "rsqrt": positive,
              "reciprocal": signed}
    for name, function in UNARY.items():
        case(f"unary_{name}", {"unary": {"_0": name}}, function, domain.get(name, wide), kinked=name == "abs")
    scale, offset = constant(-1.7), constant(0.3)
    case("affine", {"affine": {"scale": scale, "offset": offset}}, lambda x: scale * x + offset, torch.randn(3, 4))
    case("clamp", {"clamp": {"lower": -0.5, "upper": 0.75}}, lambda x: x.clamp(-0.5, 0.75),
         torch.tensor([-3.0, -0.6, -0.4, 0.0, 0.7, 0.8, 2.0]))
    x = torch.randn(3, 10)
    x[0, 5:] = torch.tensor([-12.0, -6.0, 0.0, 6.0, 12.0])
    case("geglu", {"geglu": {}}, lambda x: x.chunk(2, -1)[0] * F.gelu(x.chunk(2, -1)[1]), x)
    case("softmax", {"softmax": {}}, lambda x: x.softmax(-1), torch.randn(2, 3, 6))
    case("softmax_loud", {"softmax": {}}, lambda x: x.softmax(-1), 15 * torch.randn(3, 6))
    shapes = {"alike": ((3, 4), (3, 4)), "row": ((2, 3, 4), (4,)), "column": ((2, 3, 4), (3, 1)),
              "both": ((3, 1), (2, 1, 4)), "number": ((1,), (2, 3))}
    for name, function in BINARY.items():
        for form, (a, b) in shapes.items():
            divisor = 0.5 + torch.rand(b) if name == "divide" else torch.randn(b)
            case(f"binary_{name}_{form}", {"binary": {"_0": name}}, function, torch.randn(a), divisor)
    for name in ("minimum", "maximum"):
        case(f"binary_{name}_ties", {"binary": {"_0": name}}, BINARY[name], torch.tensor([1.0, 2.0, 3.0, -1.0]),
             torch.tensor([1.0, 3.0, 2.0, -1.0]), kinked=True)
    factors = [constant(f) for f in (0.5, -1.25, 3.1)]
    case("linear_combination", {"linearCombination": {"_0": factors}},
         lambda *terms: sum(f * x for f, x in zip(factors, terms)), *(torch.randn(3, 4) for _ in factors))
    for name, function in REDUCE.items():
        for form, axes in {"first": [0], "last": [2], "outer": [0, 2], "all": [0, 1, 2]}.items():
            case(f"reduce_{name}_{form}", {"reduce": {"_0": {"kind": name, "axes": axes}}},
                 lambda x, f=function, axes=axes: f(x, dim=axes, keepdim=True), torch.randn(2, 3, 4))
    for name in ("minimum", "maximum"):
        case(f"reduce_{name}_ties", {"reduce": {"_0": {"kind": name, "axes": [1]}}},
             lambda x, f=REDUCE[name]: f(x, dim=[1], keepdim=True),
             torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.0, -1.0, 4.0], [-2.0, -2.0, 5.0]]), kinked=True)


# Movement

def turned(x, cosines, sines, heads, pairs):
    x = x.unflatten(-1, (heads, -1))
    a, b = x.chunk(2, -1) if pairs == "halves" else (x[..., 0::2], x[..., 1::2])
    c, s = cosines[:, None], sines[:, None]
    a, b = a * c - b * s, a * s + b * c
    return (torch.cat((a, b), -1) if pairs == "halves" else torch.stack((a, b), -1).flatten(-2)).flatten(-2)


def movements():
    for pairs in ("interleaved", "halves"):
        angles = 3 * torch.randn(4, 3)
        case(f"rotary_{pairs}", {"rotary": {"_0": {"heads": 2, "pairs": pairs}}},
             lambda x, c, s, pairs=pairs: turned(x, c, s, 2, pairs), torch.randn(2, 4, 12), angles.cos(), angles.sin(),
             fixed=(1, 2))
    # A row that nobody asks for, one that all do, the first and the last.
    case("embedding", {"embedding": {}}, lambda table, ids: F.embedding(ids.long(), table), torch.randn(6, 5),
         torch.tensor([[3, 0, 3, 5], [3, 1, 0, 4]], dtype=torch.int32))
    case("embedding_vector", {"embedding": {}}, lambda table, ids: F.embedding(ids.long(), table), torch.randn(3, 17),
         torch.tensor([2, 2, 2], dtype=torch.int32))
    for factor in (2, 3):
        case(f"upsample_nearest_{factor}", {"upsampleNearest": {"factor": factor}},
             lambda x, f=factor: F.interpolate(x.permute(0, 3, 1, 2), scale_factor=f).permute(0, 2, 3, 1),
             torch.randn(2, 2, 3, 4))
    case("transpose", {"transpose": {"_0": [2, 0, 3, 1]}}, lambda x: x.permute(2, 0, 3, 1), torch.randn(2, 3, 4, 5))
    case("broadcast", {"broadcast": {"_0": [2, 3, 4]}}, lambda x: x.expand(2, 3, 4), torch.randn(3, 1))
    case("slice", {"slice": {"_0": {"starts": [1, 0, 2], "sizes": [2, 3, 1]}}}, lambda x: x[1:3, :, 2:3],
         torch.randn(4, 3, 5))
    case("concatenate", {"concatenate": {"axis": 1}}, lambda *parts: torch.cat(parts, 1), torch.randn(2, 3, 2),
         torch.randn(2, 1, 2), torch.randn(2, 4, 2))
    case("pad", {"pad": {"_0": {"before": [1, 0], "after": [0, 2], "value": 0.5}}},
         lambda x: F.pad(x, (0, 2, 1, 0), value=0.5), torch.randn(3, 4))


# The optimizer

def adamw(name, size, steps, rates, betas, epsilon, decay, average_decay, shape=(3, 7)):
    rates, betas = [constant(r) for r in rates], [constant(b) for b in betas]
    epsilon, decay, average_decay = constant(epsilon), constant(decay), constant(average_decay)
    parameter = torch.randn(shape).double().requires_grad_()
    average = parameter.detach() + 0.1 * torch.randn(shape)
    average = average.float().double()
    optimizer = torch.optim.AdamW([parameter], lr=rates[0], betas=betas, eps=epsilon, weight_decay=decay)
    store(f"{name}.state.0", torch.stack((
        parameter.detach(), torch.zeros_like(average), torch.zeros_like(average), average)))
    for step in range(1, steps + 1):
        gradient, scale = size * torch.randn(shape), torch.tensor([1.0 if step == 1 else 1 / (step + 0.3)])
        parameter.grad = gradient.double() * scale.double()
        optimizer.param_groups[0]["lr"] = rates[step - 1]
        optimizer.step()
        average = average_decay * average + (1 - average_decay) * parameter.detach()
        state = optimizer.state[parameter]
        store(f"{name}.gradient.{step}", gradient)
        store(f"{name}.scale.{step}", scale)
        store(f"{name}.state.{step}", torch.stack((
            parameter.detach(), state["exp_avg"], state["exp_avg_sq"], average)))
    UPDATES.append({"name": name, "steps": steps, "rates": rates, "betas": betas, "epsilon": epsilon,
                    "weightDecay": decay, "averageDecay": average_decay})


def clipping(name, maximum):
    gradients = [torch.randn(3, 4), 2 * torch.randn(7), torch.randn(1)]
    parameters = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.double()
    norm = torch.nn.utils.clip_grad_norm_(parameters, maximum).item()
    for index, gradient in enumerate(gradients):
        store(f"{name}.gradient.{index}", gradient)
    scale = (parameters[0].grad.flatten()[0] / gradients[0].double().flatten()[0]).item()
    CLIPPINGS.append({"name": name, "gradients": len(gradients), "maximum": maximum, "norm": norm, "scale": scale})


def updates():
    adamw("adamw", 1.0, 3, (1e-2, 5e-3, 2e-2), (0.9, 0.99), 1e-8, 0.1, 0.9)
    adamw("adamw_no_decay", 1.0, 3, (1e-3,) * 3, (0.9, 0.999), 1e-8, 0.0, 0.9995)
    # Epsilon is as large as the root of the squares.
    adamw("adamw_small_gradients", 1e-6, 3, (1e-2,) * 3, (0.8, 0.95), 1e-6, 0.01, 0.99)
    clipping("clipping", 1.0)
    clipping("clipping_not_needed", 100.0)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, group in enumerate((products, convolutions, attentions, norms, elements, movements, updates)):
        torch.manual_seed(9000 + index)
        group()
    path = FIXTURES / "operation_gradients.safetensors"
    save_file(dict(sorted(TENSORS.items())), path)
    lines = {key: ",\n".join(f"  {json.dumps(entry)}" for entry in entries) for key, entries in {
        "operations": OPERATIONS, "updates": UPDATES, "clippings": CLIPPINGS}.items()}
    text = ",\n".join(f' "{key}": [\n{body}\n ]' for key, body in lines.items())
    path.with_suffix(".json").write_text(f"{{\n{text}\n}}\n")
    worst = max(OPERATIONS, key=lambda entry: max(entry["float32"]))
    print(f"{len(OPERATIONS)} operations, {len(UPDATES)} updates, {len(CLIPPINGS)} clippings, "
          f"{path.stat().st_size / 1e3:.0f} kB; float32 is worst at {worst['name']}: {worst['float32']}")


if __name__ == "__main__":
    main()
