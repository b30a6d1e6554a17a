"""Golden values for weft: an independent implementation of its transformer, in plain PyTorch.

Writes, beside this file, for each model in `MODELS`, NAME.json (the configuration) and NAME.safetensors:

    param.KEY, grad.KEY    every parameter and d loss / d parameter, under weft's names
    tokens, targets        (B, T) i32; a target of -1 is ignored
    logits, loss           (B, T, V) and a scalar, of `tokens` and `targets` at `param.*`
    step_tokens, step_targets, losses
                           (10, B, T), (10, B, T) and (10): ten AdamW steps from `param.*`, one batch each;
                           losses[i] is the loss of batch i before update i

Everything is computed in float64 from parameters that are exact in float32, and rounded to float32 once, when
stored. Nothing here calls a layer, an attention, a loss or an optimiser of PyTorch's: only its tensor arithmetic
and its autograd. `--check` recomputes and compares with the committed files instead of writing; `--self-test`
compares this implementation with PyTorch's own layers and optimiser.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save

HERE = Path(__file__).resolve().parent
IGNORED = -1
NORM_EPS = 1e-5
COSINE_EPS = 1e-6
ROTARY_BASE = 10000.0
STEPS = 10
LR, BETAS, ADAM_EPS, WEIGHT_DECAY, GRAD_CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0

GPT2 = dict(
    vocab_size=27, block_size=16, n_layer=2, n_head=4, n_kv_head=4, n_embd=32, n_inner=128,
    norm="layer", position="learned", activation="gelu-tanh", gated=False, attention="dot",
    bias=True, tied=True, dropout=0.0,
)
LLAMA = GPT2 | dict(
    n_kv_head=2, n_inner=48, norm="rms", position="rotary", activation="silu", gated=True,
    bias=False, tied=False,
)
COSINE = GPT2 | dict(
    n_layer=1, n_head=2, n_kv_head=1, n_embd=16, n_inner=64, activation="relu2", attention="cosine",
)
# name -> (configuration, batch size, seed)
MODELS = {"gpt2": (GPT2, 4, 1), "llama": (LLAMA, 4, 2), "cosine": (COSINE, 4, 3)}


def shapes(c):
    """Every parameter's shape, in weft's order. Linear weights are (out, in)."""
    channels, head_size = c["n_embd"], c["n_embd"] // c["n_head"]
    qkv = (c["n_head"] + 2 * c["n_kv_head"]) * head_size
    fc = c["n_inner"] * (2 if c["gated"] else 1)
    out = {"wte.weight": (c["vocab_size"], channels)}
    if c["position"] == "learned":
        out["wpe.weight"] = (c["block_size"], channels)

    def norm(name):
        out[f"{name}.weight"] = (channels,)
        if c["norm"] == "layer" and c["bias"]:
            out[f"{name}.bias"] = (channels,)

    def linear(name, n_out, n_in):
        out[f"{name}.weight"] = (n_out, n_in)
        if c["bias"]:
            out[f"{name}.bias"] = (n_out,)

    for i in range(c["n_layer"]):
        norm(f"h.{i}.ln_1")
        linear(f"h.{i}.attn.c_attn", qkv, channels)
        if c["attention"] == "cosine":
            out[f"h.{i}.attn.scale"] = (c["n_head"],)
        linear(f"h.{i}.attn.c_proj", channels, channels)
        norm(f"h.{i}.ln_2")
        linear(f"h.{i}.mlp.c_fc", fc, channels)
        linear(f"h.{i}.mlp.c_proj", channels, c["n_inner"])
    norm("ln_f")
    if not c["tied"]:
        out["lm_head.weight"] = (c["vocab_size"], channels)
    return out


def draw_parameters(c, rng):
    """Normals wide enough that no gradient is tiny; norm weights near 1, cosine scales near 4; exact in float32."""
    params = {}
    for key, shape in shapes(c).items():
        z = rng.standard_normal(shape)
        if "ln_" in key and key.endswith(".weight"):
            value = 1.0 + 0.1 * z
        elif key.endswith(".scale"):
            value = 4.0 + 0.5 * z
        elif key.endswith(".bias"):
            value = 0.1 * z
        else:
            value = 0.2 * z
        params[key] = torch.from_numpy(value.astype(np.float32).astype(np.float64))
    return params


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    y = weight * centred / torch.sqrt(variance + NORM_EPS)
    return y if bias is None else y + bias


def rms_norm(x, weight):
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + NORM_EPS)


def rotate(x):
    """Rotary positions on (B, T, H, D): the pair (i, i + D/2) turns by t * base^(-2i/D)."""
    seq_len, half = x.shape[1], x.shape[3] // 2
    frequency = ROTARY_BASE ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(seq_len, dtype=x.dtype)[:, None] * frequency  # (T, D/2)
    cos, sin = torch.cos(angle)[:, None, :], torch.sin(angle)[:, None, :]  # (T, 1, D/2)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def activate(kind, x):
    if kind == "gelu-tanh":
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "gelu-erf":
        return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))
    if kind == "silu":
        return x / (1.0 + torch.exp(-x))
    if kind == "relu2":
        return torch.where(x > 0, x, torch.zeros_like(x)) ** 2
    raise ValueError(f"unknown activation {kind}")


def forward(c, params, tokens):
    """Logits (B, T, V) of tokens (B, T)."""
    n_head, n_kv_head = c["n_head"], c["n_kv_head"]
    head_size = c["n_embd"] // n_head
    batch, seq_len = tokens.shape

    def norm(name, x):
        if c["norm"] == "rms":
            return rms_norm(x, params[f"{name}.weight"])
        return layer_norm(x, params[f"{name}.weight"], params.get(f"{name}.bias"))

    def linear(name, x):
        y = x @ params[f"{name}.weight"].T
        return y + params[f"{name}.bias"] if c["bias"] else y

    def attention(name, x):
        # Rows of c_attn: all query heads, then all key heads, then all value heads.
        heads = linear(f"{name}.c_attn", x).view(batch, seq_len, n_head + 2 * n_kv_head, head_size)
        q, k, v = heads.split([n_head, n_kv_head, n_kv_head], dim=2)  # each (B, T, H or Hkv, D)
        if c["position"] == "rotary":
            q, k = rotate(q), rotate(k)
        if c["attention"] == "cosine":
            q = q / torch.sqrt((q * q).sum(-1, keepdim=True) + COSINE_EPS)
            k = k / torch.sqrt((k * k).sum(-1, keepdim=True) + COSINE_EPS)
        earlier = torch.ones(seq_len, seq_len, dtype=torch.bool).tril()
        outputs = []
        for head in range(n_head):
            kv = head // (n_head // n_kv_head)
            score = q[:, :, head] @ k[:, :, kv].transpose(1, 2)  # (B, T, T)
            if c["attention"] == "cosine":
                score = score * params[f"{name}.scale"][head]
            else:
                score = score / math.sqrt(head_size)
            score = score.masked_fill(~earlier, -math.inf)
            weight = torch.exp(score - score.amax(-1, keepdim=True))
            weight = weight / weight.sum(-1, keepdim=True)
            outputs.append(weight @ v[:, :, kv])  # (B, T, D)
        return linear(f"{name}.c_proj", torch.cat(outputs, dim=-1))

    def mlp(name, x):
        x = linear(f"{name}.c_fc", x)
        if c["gated"]:  # first half of the rows: gate, second half: up
            gate, up = x[..., : c["n_inner"]], x[..., c["n_inner"] :]
            x = activate(c["activation"], gate) * up
        else:
            x = activate(c["activation"], x)
        return linear(f"{name}.c_proj", x)

    x = params["wte.weight"][tokens]  # (B, T, C)
    if c["position"] == "learned":
        x = x + params["wpe.weight"][:seq_len]
    for i in range(c["n_layer"]):
        x = x + attention(f"h.{i}.attn", norm(f"h.{i}.ln_1", x))
        x = x + mlp(f"h.{i}.mlp", norm(f"h.{i}.ln_2", x))
    x = norm("ln_f", x)
    return x @ params["wte.weight" if c["tied"] else "lm_head.weight"].T


def cross_entropy(logits, targets):
    """Mean over the targets that are not ignored, in nats."""
    kept = targets != IGNORED
    logits, targets = logits[kept], targets[kept]  # (N, V), (N)
    peak = logits.amax(-1)
    log_sum = peak + torch.log(torch.exp(logits - peak[:, None]).sum(-1))
    chosen = logits[torch.arange(len(targets)), targets]
    return (log_sum - chosen).mean()


def loss_and_grads(c, params, tokens, targets):
    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    logits = forward(c, leaves, tokens)
    loss = cross_entropy(logits, targets)
    loss.backward()
    return logits.detach(), loss.item(), {key: leaf.grad for key, leaf in leaves.items()}


def clip(grads):
    """Scales by min(1, max / (norm + 1e-6)) with the norm over all gradients together; returns the norm."""
    norm = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
    coefficient = min(1.0, GRAD_CLIP / (norm + 1e-6))
    return {key: g * coefficient for key, g in grads.items()}, norm


def adamw(c, params, batches):
    """The losses of len(batches) AdamW steps, each before its update, and the gradient norms before clipping."""
    beta1, beta2 = BETAS
    params = dict(params)
    m = {key: torch.zeros_like(p) for key, p in params.items()}
    v = {key: torch.zeros_like(p) for key, p in params.items()}
    losses, norms = [], []
    for step, (tokens, targets) in enumerate(batches, start=1):
        _, loss, grads = loss_and_grads(c, params, tokens, targets)
        grads, norm = clip(grads)
        losses.append(loss)
        norms.append(norm)
        for key, g in grads.items():
            m[key] = beta1 * m[key] + (1 - beta1) * g
            v[key] = beta2 * v[key] + (1 - beta2) * g * g
            m_hat, v_hat = m[key] / (1 - beta1**step), v[key] / (1 - beta2**step)
            decay = WEIGHT_DECAY if params[key].dim() >= 2 else 0.0
            params[key] = params[key] * (1 - LR * decay) - LR * m_hat / (torch.sqrt(v_hat) + ADAM_EPS)
    return losses, norms, params


def draw_batches(c, rng, count, batch_size):
    """Random tokens and targets, (count, B, T); five targets of each batch are ignored."""
    size = (count, batch_size, c["block_size"])
    tokens = rng.integers(0, c["vocab_size"], size)
    targets = rng.integers(0, c["vocab_size"], size)
    for batch in targets.reshape(count, -1):
        batch[rng.choice(batch.size, 5, replace=False)] = IGNORED
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def make(name):
    c, batch_size, seed = MODELS[name]
    rng = np.random.Generator(np.random.PCG64(seed))
    params = draw_parameters(c, rng)
    tokens, targets = (x[0] for x in draw_batches(c, rng, 1, batch_size))
    step_tokens, step_targets = draw_batches(c, rng, STEPS, batch_size)
    logits, loss, grads = loss_and_grads(c, params, tokens, targets)
    losses, norms, _ = adamw(c, params, list(zip(step_tokens, step_targets)))

    out = {"logits": logits, "loss": torch.tensor(loss), "losses": torch.tensor(losses)}
    out |= {f"param.{key}": p for key, p in params.items()}
    out |= {f"grad.{key}": g for key, g in grads.items()}
    out = {key: x.numpy().astype(np.float32) for key, x in out.items()}
    for key, x in [("tokens", tokens), ("targets", targets), ("step_tokens", step_tokens), ("step_targets", step_targets)]:
        out[key] = x.numpy().astype(np.int32)
    smallest = min(float(g.abs().amax()) for g in grads.values())
    print(f"{name}: loss {loss:.6f}, losses {losses[0]:.4f} .. {losses[-1]:.4f}, gradient norms "
          f"{min(norms):.2f} .. {max(norms):.2f}, smallest of the largest |gradient| per tensor {smallest:.1e}")
    return c, out


def check(name, made):
    """Compares a recomputation with the committed file: rounding may differ by a few ulp between machines, no more."""
    committed = load_file(HERE / f"{name}.safetensors")
    assert committed.keys() == made.keys(), f"{name}: the tensors' names differ"
    for key, x in made.items():
        if key.startswith("param.") or x.dtype == np.int32:
            assert np.array_equal(x, committed[key]), f"{name}: {key} differs"
        else:
            np.testing.assert_allclose(x, committed[key], rtol=1e-6, atol=1e-9, err_msg=f"{name}: {key}")


def self_test(name):
    """This implementation against PyTorch's own norms, attention, loss, clipping and AdamW, in float64."""
    import torch.nn.functional as F

    c, batch_size, seed = MODELS[name]
    rng = np.random.Generator(np.random.PCG64(seed))
    params = draw_parameters(c, rng)
    step_tokens, step_targets = draw_batches(c, rng, STEPS, batch_size)

    def library_forward(p, tokens):
        b, t = tokens.shape
        h, hkv, d = c["n_head"], c["n_kv_head"], c["n_embd"] // c["n_head"]

        def norm(key, x):
            if c["norm"] == "rms":
                return F.rms_norm(x, x.shape[-1:], p[key + ".weight"], NORM_EPS)
            return F.layer_norm(x, x.shape[-1:], p[key + ".weight"], p.get(key + ".bias"), NORM_EPS)

        def turn(x):  # complex form: independent of `rotate`
            z = torch.complex(x[..., : d // 2], x[..., d // 2 :])
            angle = torch.outer(torch.arange(t), ROTARY_BASE ** (-torch.arange(0, d, 2, dtype=x.dtype) / d))
            z = z * torch.polar(torch.ones_like(angle), angle)
            return torch.cat([z.real, z.imag], -1)

        x = F.embedding(tokens, p["wte.weight"])
        if "wpe.weight" in p:
            x = x + F.embedding(torch.arange(t), p["wpe.weight"])
        for i in range(c["n_layer"]):
            lin = lambda key, y: F.linear(y, p[f"h.{i}.{key}.weight"], p.get(f"h.{i}.{key}.bias"))
            qkv = lin("attn.c_attn", norm(f"h.{i}.ln_1", x)).split([h * d, hkv * d, hkv * d], -1)
            q, k, v = (y.view(b, t, -1, d).transpose(1, 2) for y in qkv)
            if c["position"] == "rotary":
                q, k = turn(q), turn(k)
            scale = None
            if c["attention"] == "cosine":
                # F.normalize clamps the norm instead of adding eps to its square, so only eps is done by hand.
                q = q * torch.rsqrt(q.pow(2).sum(-1, keepdim=True) + COSINE_EPS) * p[f"h.{i}.attn.scale"].view(h, 1, 1)
                k = k * torch.rsqrt(k.pow(2).sum(-1, keepdim=True) + COSINE_EPS)
                scale = 1.0
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
            x = x + lin("attn.c_proj", y.transpose(1, 2).reshape(b, t, -1))
            y = lin("mlp.c_fc", norm(f"h.{i}.ln_2", x))
            gate, up = y.chunk(2, -1) if c["gated"] else (y, 1.0)
            act = {"gelu-tanh": lambda z: F.gelu(z, approximate="tanh"), "silu": F.silu, "relu2": lambda z: F.relu(z).square()}
            x = x + lin("mlp.c_proj", act[c["activation"]](gate) * up)
        return F.linear(norm("ln_f", x), p["wte.weight" if c["tied"] else "lm_head.weight"])

    losses, _, trained = adamw(c, params, list(zip(step_tokens, step_targets)))
    p = {key: torch.nn.Parameter(x.clone()) for key, x in params.items()}
    groups = [
        {"params": [x for x in p.values() if x.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [x for x in p.values() if x.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=ADAM_EPS)
    for step in range(STEPS):
        ours, _, grads = loss_and_grads(c, {k: x.detach() for k, x in p.items()}, step_tokens[step], step_targets[step])
        logits = library_forward(p, step_tokens[step])
        torch.testing.assert_close(logits, ours, rtol=1e-9, atol=1e-11)
        loss = F.cross_entropy(logits.flatten(0, 1), step_targets[step].flatten(), ignore_index=IGNORED)
        assert abs(loss.item() - losses[step]) < 1e-9, f"{name}: step {step}: {loss.item()} vs {losses[step]}"
        optimizer.zero_grad()
        loss.backward()
        for key, x in p.items():
            torch.testing.assert_close(x.grad, grads[key], rtol=1e-7, atol=1e-11, msg=lambda m: f"{name} {key}: {m}")
        torch.nn.utils.clip_grad_norm_(p.values(), GRAD_CLIP)
        optimizer.step()
    for key, x in p.items():
        torch.testing.assert_close(x.detach(), trained[key], rtol=1e-7, atol=1e-9)
    print(f"{name}: agrees with the library's layers, loss, clipping and AdamW")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files; write nothing")
    parser.add_argument("--self-test", action="store_true", help="compare with PyTorch's own layers; write nothing")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, python {sys.version.split()[0]}")
    for name in MODELS:
        if args.self_test:
            self_test(name)
            continue
        c, tensors = make(name)
        if args.check:
            check(name, tensors)
            continue
        (HERE / f"{name}.json").write_text(json.dumps(c, indent=2) + "\n")
        (HERE / f"{name}.safetensors").write_bytes(save(tensors))
        for suffix in ["json", "safetensors"]:
            data = (HERE / f"{name}.{suffix}").read_bytes()
            print(f"  {hashlib.sha256(data).hexdigest()}  {name}.{suffix}  {len(data)} bytes")


if __name__ == "__main__":
    main()
