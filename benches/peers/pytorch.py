"""PyTorch as a peer: how long the same training step takes there, on the same machine.

    pytorch.py time --shape names --mode eager --seconds 5

It prints one JSON line; compare.py beside this file runs it in turn with weft. The model is GPT-2's as people write it in
PyTorch: layer norm, learned positions, one fused query/key/value projection, `scaled_dot_product_attention`, GELU
(tanh), biases, tied head, no dropout. A step is zero_grad, forward, cross-entropy, backward, clipping to norm 1,
AdamW. README.md beside this file says how to install PyTorch and what the modes are.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BATCHES = 8  # different ones in turn, so that no step repeats the last
WARMUP_STEPS = 3
WARMUP_SECONDS = 0.5
MIN_STEPS = 3


@dataclass(frozen=True)
class Shape:
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    vocab_size: int


SHAPES = {
    "names": Shape(4, 4, 64, 16, 32, 27),
    "shakes": Shape(4, 4, 128, 64, 12, 65),
    "baby": Shape(6, 6, 384, 256, 16, 65),
    "gpt2": Shape(12, 12, 768, 64, 4, 50257),
}

# mode -> (torch.compile's keyword arguments or None, AdamW's keyword arguments)
MODES = {
    "eager": (None, {}),
    "foreach": (None, {"foreach": True}),
    "fused": (None, {"fused": True}),
    "compile": ({}, {"fused": True}),
    "compile-cpp": ({"options": {"cpp_wrapper": True}}, {"fused": True}),
}


class Others:
    """The share of the machine's CPU time that other processes take, from `Others(own)` to `share()`.

    It matters: PyTorch's threads spin at every barrier, so one busy neighbour can slow its step tenfold and flatter
    whoever is compared with it. `own` returns the CPU seconds used by the processes that do count.
    """

    def __init__(self, own):
        self.own, self.started = own, (self.busy(), own(), time.perf_counter())

    @staticmethod
    def busy():
        try:
            user, nice, system, _idle, _iowait, *rest = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
        except OSError:
            return None
        return sum(map(int, [user, nice, system, *rest[:3]])) / os.sysconf("SC_CLK_TCK")

    def share(self):
        busy, own, started = self.started
        if busy is None:
            return None
        wall = time.perf_counter() - started
        return round(max(0.0, self.busy() - busy - (self.own() - own)) / (wall * os.cpu_count()), 3)


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(shape):
    """The model; its call takes (B, T) tokens and targets and returns the loss."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    n_embd, n_head = shape.n_embd, shape.n_head

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1 = nn.LayerNorm(n_embd)
            self.c_attn = nn.Linear(n_embd, 3 * n_embd)
            self.attn_proj = nn.Linear(n_embd, n_embd)
            self.ln_2 = nn.LayerNorm(n_embd)
            self.c_fc = nn.Linear(n_embd, 4 * n_embd)
            self.mlp_proj = nn.Linear(4 * n_embd, n_embd)

        def forward(self, x):
            batch, seq_len, _ = x.shape
            qkv = self.c_attn(self.ln_1(x)).split(n_embd, dim=2)
            q, k, v = (y.view(batch, seq_len, n_head, -1).transpose(1, 2) for y in qkv)  # (B, H, T, D)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.attn_proj(y.transpose(1, 2).reshape(batch, seq_len, n_embd))
            return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(shape.vocab_size, n_embd)
            self.wpe = nn.Embedding(shape.block_size, n_embd)
            self.h = nn.ModuleList(Block() for _ in range(shape.n_layer))
            self.ln_f = nn.LayerNorm(n_embd)
            self.lm_head = nn.Linear(n_embd, shape.vocab_size, bias=False)
            self.lm_head.weight = self.wte.weight
            for name, p in self.named_parameters():
                if p.dim() >= 2:
                    nn.init.normal_(p, std=0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(p)
            self.register_buffer("positions", torch.arange(shape.block_size), persistent=False)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe(self.positions[: tokens.shape[1]])
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    return Gpt()


def trainer(shape, mode, dtype):
    """A function that takes one training step and returns its loss, and the number of parameters."""
    import torch

    compile_args, adamw_args = MODES[mode]
    torch.manual_seed(1)
    model = build(shape)
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, **adamw_args)
    loss_of = model if compile_args is None else torch.compile(model, **compile_args)
    data = torch.randint(shape.vocab_size, (BATCHES, shape.batch_size, shape.block_size + 1))
    tokens, targets = data[:, :, :-1].contiguous(), data[:, :, 1:].contiguous()
    taken = 0

    def step():
        nonlocal taken
        batch = taken % BATCHES
        taken += 1
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = loss_of(tokens[batch], targets[batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        return loss.item()

    return step, sum(p.numel() for p in params)


def measure(step, seconds):
    """The durations in seconds of the steps taken within `seconds`, after a warm-up."""
    started = time.perf_counter()
    warm = 0
    while warm < WARMUP_STEPS or (time.perf_counter() - started < WARMUP_SECONDS and warm < 1000):
        first = step()
        warm += 1
    durations = []
    started = time.perf_counter()
    while len(durations) < MIN_STEPS or time.perf_counter() - started < seconds:
        begin = time.perf_counter()
        last = step()
        durations.append(time.perf_counter() - begin)
    if not (first == first and last == last and last < 1e3):  # a step that does not train would not be worth its time
        raise SystemExit(f"pytorch.py: the loss went from {first} to {last}")
    return durations


def time_one(shape, mode, dtype, threads, seconds):
    """Times one mode and returns the JSON object; `best` tries every mode for a second, then times the fastest."""
    import torch

    torch.set_num_threads(threads)
    picked = mode
    if mode == "best":
        tried = {}
        for candidate in [*MODES, *MODES]:  # twice, so that one bad second does not decide
            try:
                step, _ = trainer(SHAPES[shape], candidate, dtype)
                fastest = min(measure(step, 1.0))  # the minimum: what other processes disturb least
                tried[candidate] = min(fastest, tried.get(candidate, fastest))
            except Exception as error:  # no C++ compiler, say: the other modes still count
                print(f"{shape} {candidate}: left out: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            print(f"{shape} {candidate}: {tried[candidate] * 1e3:.3f} ms at least", file=sys.stderr)
        if not tried:
            raise SystemExit(f"pytorch.py: {shape}: no mode works")
        picked = min(tried, key=tried.get)
    step, n_params = trainer(SHAPES[shape], picked, dtype)
    others = Others(time.process_time)
    durations = measure(step, seconds)
    return {
        "shape": shape,
        "mode": picked,
        "dtype": dtype,
        "threads": threads,
        "params": n_params,
        "median_ms": round(statistics.median(durations) * 1e3, 4),
        "min_ms": round(min(durations) * 1e3, 4),
        "steps": len(durations),
        "others_cpu": others.share(),
        "version": f"PyTorch {torch.__version__}",
    }


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("time", help="time PyTorch; prints one JSON line")
    one.add_argument("--shape", choices=SHAPES, required=True)
    one.add_argument("--mode", choices=[*MODES, "best"], default="eager", help="best: the fastest of the others (default: eager)")
    one.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast (default: f32)")
    one.add_argument("--threads", type=positive, default=2, help="default: 2")
    one.add_argument("--seconds", type=float, default=5.0, help="after the warm-up (default: 5)")
    args = parser.parse_args()
    print(json.dumps(time_one(args.shape, args.mode, args.dtype, args.threads, args.seconds)))


if __name__ == "__main__":
    main()
