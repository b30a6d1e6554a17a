#!/usr/bin/env python3
"""Coefficients of the polynomials in tensor/src/math.rs, by weighted minimax fits in 40 digits (needs mpmath).

Each polynomial is the best one in the stated weighted error. It is then rounded to f32 one coefficient at a time,
lowest power first, and the others are fitted again after each rounding: what one coefficient loses the rest make up for
(after Brisebarre & Chevillard 2007, who search the whole lattice). Run it to see the coefficients and the errors.
"""
import struct
from mpmath import mp, mpf, matrix, lu_solve, exp, log, erf, erfc, sqrt, tanh, pi, cos

mp.dps = 40


def to_f32(x):
    """The nearest f32."""
    return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def best(target, weight, powers, grid, rounds=40):
    """The c that makes max |weight (target - sum c_k x^k)| over the grid nearly least (Lawson 1961: least squares,
    each point's share multiplied by its error, again and again)."""
    n = len(powers)
    rows = [[weight(x) * x**k for k in powers] + [weight(x) * target(x)] for x in grid]
    share = [mpf(1)] * len(rows)
    worst, found = None, None
    for _ in range(rounds):
        a, b = matrix(n, n), matrix(n, 1)
        for s, row in zip(share, rows):
            for i in range(n):
                si = s * row[i]
                b[i] += si * row[n]
                for j in range(i, n):
                    a[i, j] += si * row[j]
        for i in range(n):
            for j in range(i):
                a[i, j] = a[j, i]
        c = lu_solve(a, b)
        errors = [abs(row[n] - sum(c[j] * row[j] for j in range(n))) for row in rows]
        if worst is None or max(errors) < worst:
            worst, found = max(errors), list(c)
        share = [s * e for s, e in zip(share, errors)]
        total = sum(share)
        share = [s / total for s in share]
    return found, worst


def show(name, target, weight, powers, low, high):
    """Rounds one coefficient after the other and prints them all."""
    low, high = mpf(low), mpf(high)
    grid = [low + (high - low) * (1 - cos(pi * (i + mpf(1) / 2) / 100)) / 2 for i in range(100)]
    _, ideal = best(target, weight, powers, grid)
    fixed, left = [], list(powers)
    while left:
        rest = lambda x: target(x) - sum(c * x**k for k, c in fixed)
        c, _ = best(rest, weight, left, grid)
        fixed.append((left.pop(0), to_f32(c[0])))
    grid = [low + (high - low) * i / 4000 for i in range(4001)]
    reached = max(
        abs(weight(x) * (target(x) - sum(c * x**k for k, c in fixed))) for x in grid if abs(x) > mpf("1e-9")
    )
    print(f"{name}: 2^{float(log(ideal, 2)):.1f} in reals, 2^{float(log(reached, 2)):.1f} in f32")
    for k, c in fixed:
        print(f"    x^{k}: {mp.nstr(c, 12)}")


def parts(name, x):
    """The nearest f32 and the nearest f32 to what is left."""
    high = to_f32(x)
    print(f"{name}: {mp.nstr(high, 12)} + {mp.nstr(to_f32(x - high), 12)}")


parts("ln 2", log(2))

# e^r = 1 + r + r^2 p(r), relative.
show(
    "EXP",
    lambda r: (exp(r) - 1 - r) / r**2,
    lambda r: r**2 / exp(r),
    range(5),
    "-0.3467",
    "0.3467",
)
# 2^r = 1 + r p(r), relative to 2^r.
show("EXP2", lambda r: (2**r - 1) / r, lambda r: abs(r / 2**r), range(6), "-0.5", "0.5")
# ln(1 + f) = f - f^2/2 + f^3 p(f), relative.
show(
    "LN",
    lambda f: (log(1 + f) - f + f**2 / 2) / f**3,
    lambda f: abs(f**3 / log(1 + f)),
    range(9),
    sqrt(mpf(1) / 2) - 1,
    sqrt(mpf(2)) - 1,
)
# tanh x = x + x^3 p(x^2) below 5/8, relative.
show(
    "TANH",
    lambda s: (tanh(sqrt(s)) / sqrt(s) - 1) / s,
    lambda s: s * sqrt(s) / tanh(sqrt(s)),
    range(5),
    "1e-12",
    mpf("0.625") ** 2,
)
# erf x = x + x p(x^2) below SPLIT, relative.
SPLIT = mpf("0.9375")
show(
    "ERF_NEAR",
    lambda s: erf(sqrt(s)) / sqrt(s) - 1,
    lambda s: sqrt(s) / erf(sqrt(s)),
    range(7),
    "1e-12",
    SPLIT**2,
)
# erf t = 1 - exp(-t p(t)) above, to 4, where erf rounds to 1; the error of the exponent as seen in erf.
show(
    "ERF_FAR",
    lambda t: -log(erfc(t)) / t,
    lambda t: t * erfc(t) / erf(t),
    range(8),
    SPLIT,
    "4",
)
