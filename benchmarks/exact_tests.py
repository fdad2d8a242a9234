"""`exact`: ten thousand sign tests and signed-rank tests with ties, beside SciPy's."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from scipy import stats

from harness import Problem, main
from trocar.stats.exact import sign_test, signed_rank

TESTS = 10_000
PAIRS = 60
SHARE = 20  # SciPy does one in twenty, and its bar is divided by as many
SAMPLED = 2000  # and by permutation, which takes it most of a second each, one in two thousand
FLIPS = 9999
BINOM, PERMUTATIONS = (
    f"SciPy binomtest, 1/{SHARE} of them",
    f"SciPy wilcoxon by {FLIPS} permutations, 1/{SAMPLED} of them",
)
IGNORANT = f"SciPy wilcoxon 'exact', blind to ties, 1/{SHARE} of them"


def sign_problem() -> Problem:
    rng = np.random.default_rng(1)
    untied = rng.integers(1, PAIRS + 1, TESTS)
    counts = [(int(rng.integers(0, n + 1)), int(n)) for n in untied]

    def check(ours: list[float], peers: Mapping[str, Any]) -> tuple[bool, str]:
        exact = [
            float(min(Fraction(1), Fraction(2 * sum(comb(n, i) for i in range(k + 1)), 2**n)))
            for k, n in ((min(b, n - b), n) for b, n in counts)
        ]
        off = max(abs(a / b - 1) for a, b in zip(ours[::SHARE], peers[BINOM], strict=True))
        wrong = sum(a != b for a, b in zip(ours, exact, strict=True))
        return wrong == 0 and off < 1e-11, (
            f"{wrong} of {TESTS} differ from fractions in the last bit; "
            f"SciPy's are within {off:.0e} of ours"
        )

    return Problem(
        name="sign-10000",
        ours=lambda: [sign_test(b, n - b).p_value for b, n in counts],
        peers={BINOM: lambda: [stats.binomtest(b, n).pvalue for b, n in counts[::SHARE]]},
        check=check,
        target_s=1.0,
        target_ratio={BINOM: 10 / SHARE},
    )


def by_dictionary(differences: list[int]) -> float:
    """The whole distribution of the doubled rank sum as a dictionary: nothing packed or cut off."""
    size = [abs(d) for d in differences if d]
    doubled = [sum(o < s for o in size) * 2 + sum(o == s for o in size) + 1 for s in size]
    ways = {0: 1}
    for weight in doubled:
        more = dict(ways)
        for total, count in ways.items():
            more[total + weight] = more.get(total + weight, 0) + count
        ways = more
    whole = sum(doubled)
    plus = sum(w for w, d in zip(doubled, (d for d in differences if d), strict=True) if d > 0)
    far = sum(c for total, c in ways.items() if abs(2 * total - whole) >= abs(2 * plus - whole))
    return float(Fraction(far, 2 ** len(size)))


def rank_problem(name: str, scale: int) -> Problem:
    """``scale``: steps of the pain scale; fewer steps, more ties. No zeros: all 60 count."""
    rng = np.random.default_rng(scale)
    size = rng.integers(1, scale + 1, (TESTS, PAIRS))
    differences = np.where(rng.random((TESTS, PAIRS)) < 0.6, size, -size)
    few = differences[::SAMPLED]
    resample = stats.PermutationMethod(n_resamples=FLIPS, rng=np.random.default_rng(0))

    def check(ours: list[float], peers: Mapping[str, Any]) -> tuple[bool, str]:
        some = range(0, TESTS, TESTS // 25)
        wrong = sum(ours[i] != by_dictionary(differences[i].tolist()) for i in some)
        p, sampled = np.array(ours[::SAMPLED]), np.array(peers[PERMUTATIONS])
        error = np.sqrt(2 * p * (1 - p / 2) / FLIPS)  # SciPy doubles one side, and adds one flip
        z = np.maximum(0, np.abs(p - sampled) - 2 / FLIPS) / error
        off = np.abs(np.array(ours[::SHARE]) / np.array(peers[IGNORANT]) - 1).max()
        return bool(wrong == 0 and z.max() < 5), (
            f"{wrong} of {len(some)} differ in the last bit from a dictionary of all sums; sampled "
            f"P within {z.max():.1f} of their standard errors; blind to ties up to {off:.0%} off"
        )

    return Problem(
        name=name,
        ours=lambda: [signed_rank(d).p_value for d in differences],
        peers={
            IGNORANT: lambda: [
                stats.wilcoxon(d, method="exact").pvalue for d in differences[::SHARE]
            ],
            PERMUTATIONS: lambda: [stats.wilcoxon(d, method=resample).pvalue for d in few],
        },
        check=check,
        target_s=1.0,
        target_ratio={IGNORANT: 5 / SHARE},
    )


if __name__ == "__main__":
    main(
        [
            sign_problem,
            lambda: rank_problem("rank-ties", 10),
            lambda: rank_problem("rank-fine", 100),
        ]
    )
