"""Times the same training step in weft, PyTorch, candle and burn, in turn, and prints one table of ratios.

    compare.py
    compare.py --shape names --shape shakes --peer pytorch --mode compile --rounds 3 --seconds 2
    compare.py --shape baby --log rounds.jsonl --rounds 1

Every measurement is a process of its own. All sides take turns within each round, so that whatever else the machine
does falls on all of them, and the order turns from round to round. The table, in Markdown, has the median of the rounds'
milliseconds per step, and beside each peer the median of the rounds' ratios: how many times as fast weft is. README.md
beside this file says how to install what is needed and what is not quite the same on all sides.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from pytorch import MODES, SHAPES, Others, children_seconds, positive

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = {"pytorch": "PyTorch", "candle": "candle", "burn": "burn"}
F32_ONLY = {"candle", "burn"}  # on a processor they multiply bf16 as f32, or not at all
NOISY = 0.03  # share of the CPU in other hands above which a table is not worth quoting


def run(command, directory, threads):
    """Runs a command and returns the JSON object on the last line of its output, and what it said on the way."""
    env = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"compare.py: cannot run {shlex.join(command)}: {error}")
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise SystemExit(f"compare.py: {shlex.join(command)} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return json.loads(lines[-1]), done.stderr


class Sides:
    """How each side is started."""

    def __init__(self, args):
        self.threads, self.dtype, self.mode = args.threads, args.dtype, args.mode
        cargo = ["cargo", "run", "--release", "-q"]
        weft = shlex.split(args.weft) if args.weft else [*cargo, "-p", "weft-benches", "--bin", "step", "--"]
        if args.dtype != "f32":
            weft += ["--precision", args.dtype]
        torch = [args.python, str(HERE / "pytorch.py"), "time", "--dtype", args.dtype]
        # Where they are started decides which configuration cargo reads.
        self.commands = {
            "weft": (weft, ROOT),
            "pytorch": (torch, ROOT),
            "candle": ([*cargo, "--bin", "candle-step", "--"], HERE / "rust"),
            "burn": ([*cargo, "--bin", "burn-step", "--"], HERE / "rust"),
        }

    def time(self, side, shape, seconds, mode=None):
        command, directory = self.commands[side]
        command = [*command, "--shape", shape, "--seconds", str(seconds), "--threads", str(self.threads)]
        found, log = run(command + (["--mode", mode] if mode else []), directory, self.threads)
        if "left out" in log or mode == "best":
            print(log, end="", file=sys.stderr)
        return found

    def pytorch_mode(self, shape, earlier):
        """The mode to time for a shape: chosen once, not in every round."""
        if self.mode != "best":
            return self.mode
        known = [record["mode"] for record in earlier if record["shape"] == shape and record["side"] == "pytorch"]
        return known[-1] if known else self.time("pytorch", shape, 0, "best")["mode"]


def one_round(sides, shape, names, seconds, mode, shift):
    """One measurement of each side, each with the share of the CPU that others had during the round."""
    others = Others(children_seconds)
    order = names[shift % len(names) :] + names[: shift % len(names)]
    found = {side: sides.time(side, shape, seconds, mode if side == "pytorch" else None) for side in order}
    params = {side: record["params"] for side, record in found.items()}
    if len(set(params.values())) != 1:
        raise SystemExit(f"compare.py: {shape}: the numbers of parameters differ: {params}")
    return [
        {
            "shape": shape,
            "side": side,
            "dtype": sides.dtype,
            "threads": sides.threads,
            "mode": record.get("mode"),
            "median_ms": record["median_ms"],
            "version": record.get("version"),
            "seconds": seconds,
            "others_cpu": others.share(),
        }
        for side, record in found.items()
    ]


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def weft_version():
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        return f"weft {commit.stdout.strip()}".strip()
    except OSError:
        return "weft"


def noise(one):
    """The share of the CPU that others had during a round."""
    return max(record["others_cpu"] or 0.0 for record in one)


def quiet(rounds):
    """The rounds that nobody disturbed; of a shape and its sides all, where there is none such."""
    kind = lambda one: (one[0]["shape"], frozenset(record["side"] for record in one))
    undisturbed = [one for one in rounds if noise(one) <= NOISY]
    found = {kind(one) for one in undisturbed}
    return undisturbed + [one for one in rounds if kind(one) not in found]


def milliseconds(x):
    return f"{x:.0f}" if x >= 1000 else f"{x:.3g}"


def table(all_rounds, shapes, names):
    """The Markdown table of the rounds, each a list of records of one shape."""
    rounds = quiet(all_rounds)
    records = [record for one in rounds for record in one]
    versions = [version for name in names if (version := next((r["version"] for r in records if r["side"] == name), None))]
    counts = sorted({len([one for one in rounds if one[0]["shape"] == shape]) for shape in shapes})
    first = records[0]
    spread = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    print(
        f"{datetime.date.today()}, {processor()}, {first['threads']} threads, {first['dtype']}; {weft_version()}, "
        f"{', '.join(versions)}; {spread} round(s), medians; ×: how many times as fast weft is\n"
    )
    peers = [name for name in names if name != "weft"]
    print("| shape | weft, ms |" + "".join(f" {PEERS[peer]}, ms | × |" for peer in peers))
    print("|---|---:|" + "---:|---:|" * len(peers))
    for shape in shapes:
        sides = [{record["side"]: record for record in one} for one in rounds if one[0]["shape"] == shape]
        if not sides:
            continue
        row = f"| `{shape}` | {milliseconds(statistics.median(one['weft']['median_ms'] for one in sides))} |"
        for peer in peers:
            pairs = [(one[peer]["median_ms"], one["weft"]["median_ms"]) for one in sides if peer in one]
            if not pairs:
                row += " – | – |"
                continue
            mode = next((f" ({one[peer]['mode']})" for one in sides if one.get(peer, {}).get("mode")), "")
            theirs, ratio = (statistics.median(p) for p in zip(*((t, t / o) for t, o in pairs)))
            row += f" {milliseconds(theirs)}{mode} | {ratio:.2f} |"
        print(row)
    if len(rounds) < len(all_rounds):
        print(f"\nleft out: {len(all_rounds) - len(rounds)} rounds during which others took more than {NOISY:.0%} of the CPU")
    noisy = {one[0]["shape"]: noise(one) for one in rounds if noise(one) > NOISY}
    if noisy:
        said = ", ".join(f"{shape} {share:.0%}" for shape, share in noisy.items())
        print(f"\nnot a quiet machine: others took a part of the CPU ({said}), which hurts PyTorch most; repeat")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, action="append", help="may be repeated (default: all)")
    parser.add_argument("--peer", choices=PEERS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--mode", choices=[*MODES, "best"], default="best", help="of PyTorch (default: best)")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: PyTorch and weft only (default: f32)")
    parser.add_argument("--threads", type=positive, default=2, help="on every side (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="0 prints what the log holds (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement, after the warm-up (default: 5)")
    parser.add_argument("--log", metavar="FILE", type=Path, help="adds the rounds to those in FILE, and shows all of them")
    parser.add_argument("--python", default=sys.executable, help="one that has PyTorch (default: this one)")
    parser.add_argument("--weft", metavar="CMD", help="what to run for weft (default: the bench's step, through cargo)")
    args = parser.parse_args()

    shapes, peers = args.shape or list(SHAPES), args.peer or list(PEERS)
    names = ["weft", *(peer for peer in PEERS if peer in peers and (args.dtype == "f32" or peer not in F32_ONLY))]
    rounds = []
    if args.log and args.log.exists():
        logged = [json.loads(line) for line in args.log.read_text().splitlines()]
        same = {"dtype": args.dtype, "threads": args.threads}
        rounds = [one for one in logged if same.items() <= one[0].items() and one[0]["shape"] in shapes]

    sides = Sides(args)
    modes = {}
    if args.rounds:
        for name in names:  # builds it, so that no round waits for the compiler
            if name != "pytorch":
                sides.time(name, "names", 0)
    if args.rounds and "pytorch" in names:
        modes = {shape: sides.pytorch_mode(shape, [record for one in rounds for record in one]) for shape in shapes}
    for index in range(args.rounds):
        for shape in shapes:
            one = one_round(sides, shape, names, args.seconds, modes.get(shape), index)
            rounds.append(one)
            if args.log:
                with args.log.open("a") as log:
                    log.write(json.dumps(one) + "\n")
            said = ", ".join(f"{record['side']} {record['median_ms']:.3f} ms" for record in one)
            print(f"round {index + 1}/{args.rounds} {shape}: {said}", file=sys.stderr)
    if not rounds:
        raise SystemExit("compare.py: no rounds, and none in the log")
    table(rounds, shapes, names)


if __name__ == "__main__":
    main()
