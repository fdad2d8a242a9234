"""`heat-step` and `heat-600s`: heat in uneven living tissue, one explicit step and ten minutes.

`heat-step`: explicit updates of 128^3 and 256^3 voxels in float32, conductivity, capacity,
perfusion and source differing from voxel to voxel, without a dose, with CEM43 of each step where
7 % of the tissue is warm, and (128^3) where all of it is. The kernel notes the highest and lowest
temperature of each voxel in any case. Beside it, in the same rounds: NumPy on slices and JAX (where
installed), with CEM43 at each step's end where ours has one, without extremes; and the triad for
the floor of 36 bytes per voxel (nine streams of float32: temperature, three conductances, capacity,
perfusion, source, and the result with the read that its write costs). Steps that go together
through memory can pass that floor.

`heat-600s`: 600 s at 0.5 mm with 2 W in a ball of 5 mm, perfusion ending at CEM43 240: RKL2 with
0.05 K allowed in a step, beside explicit steps of 0.05 s in float64. `--size 256` is the size of
the bar (128 without it); the reference takes 96^3 of the same tissue, the whole with `--full`.
`--only step` or `--only 600s` runs one of the two.

    python benchmarks/heat_step.py --threads 2 --repeats 5
    python benchmarks/heat_step.py --only 600s --size 256 --repeats 1
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness import Outcome, Problem, main
from trocar.kernels.dose import Cem43
from trocar.kernels.heat import Bioheat, Tissue

NUMPY, JAX, TRIAD = "NumPy on slices", "JAX fori_loop", "triad, 36 bytes per voxel"
SPACING_M = 0.5e-3
BLOOD_C, POWER_W, SOURCE_M = 37.0, 2.0, 5e-3
STEP_S = 0.2  # stable here, which the gate sees: it counts the steps
DOSE = Cem43(above=0.5, below=0.25, from_c=39.0)
SHUT_MIN = 240.0
LOOKED_AT_S = (60.0, 120.0, 300.0, 600.0)
REFERENCE_S, CROP, TOLERANCE_K = 0.05, 96, 0.05
BYTES, TRIAD_BYTES = 36, 4 * 100_000_000
MOST_NS, LEAST_FLOOR, WITHIN_K, MOST_K = 1.1, 0.5, 1e-3, 0.05
WITHIN_DOSE = 0.06  # the peers take a step's last temperature for its dose, ours its course
Single = NDArray[np.float32]
Double = NDArray[np.float64]


# --- tissue ---------------------------------------------------------------------------------------


def from_middle_m(n: int) -> tuple[Double, Double, Double]:
    """Where the voxels lie, from the middle of the grid, along each axis, for broadcasting."""
    x: Double = SPACING_M * (np.arange(n, dtype=np.float64) + 0.5 - n / 2)
    return x[:, None, None], x[:, None], x


def tissue(n: int) -> Tissue:
    """A lesion in bone in muscle, each with a texture; a smaller grid is a crop of a larger one.

    Round numbers of the size that tissue has: they set the scale, no result is taken from them.
    """
    z, y, x = from_middle_m(n)
    r = np.sqrt(z**2 + y**2 + x**2)
    texture = np.sin(2100 * x + 1) * np.sin(1700 * y + 2) * np.sin(1900 * z + 3)
    lesion, bone = r < 9e-3, np.sqrt(z**2 + (y / 1.3) ** 2 + (x / 1.2) ** 2) < 17e-3
    pick = partial(np.select, [lesion, bone])
    return Tissue(
        shape=(n, n, n),
        spacing_m=(SPACING_M,) * 3,
        heat_capacity_j_m3k=pick([3.6e6, 2.7e6], 3.7e6) * (1 + 0.05 * texture),
        conductivity_w_mk=pick([0.5, 0.35], 0.5) * (1 + 0.15 * texture),
        perfusion_w_m3k=pick([8000.0, 2200.0], 2500.0) * (1 + 0.3 * texture),
        blood_c=BLOOD_C,
    )


def source_w_m3(n: int) -> Double:
    """All the power evenly in the ball."""
    z, y, x = from_middle_m(n)
    ball = (z**2 + y**2 + x**2 < SOURCE_M**2).astype(float)
    out: Double = ball * (POWER_W / (ball.sum() * SPACING_M**3))
    return out


def warm_c(n: int, lowest_c: float) -> Double:
    """A warm middle in tissue that is at least so warm."""
    z, y, x = from_middle_m(n)
    reach = 0.15 * n * SPACING_M
    out: Double = lowest_c + 43.0 * np.exp(-(z**2 + y**2 + x**2) / reach**2)
    return out


# --- one explicit step: the peers ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """What an explicit step needs, float32: conductances between voxels, step / capacity."""

    rise_k: Single
    faces: tuple[Single, Single, Single]
    gain: Single
    perfusion: Single
    source: Single


def arrays(n: int, start_c: Double, step_s: float) -> Arrays:
    t = tissue(n)
    k, faces = np.asarray(t.conductivity_w_mk), []
    for axis in range(3):
        near, far = np.delete(k, -1, axis), np.delete(k, 0, axis)
        faces.append((2 * near * far / (near + far) / SPACING_M**2).astype(np.float32))
    return Arrays(
        rise_k=(start_c - BLOOD_C).astype(np.float32),
        faces=(faces[0], faces[1], faces[2]),
        gain=(step_s / np.asarray(t.heat_capacity_j_m3k)).astype(np.float32),
        perfusion=np.asarray(t.perfusion_w_m3k).astype(np.float32),
        source=source_w_m3(n).astype(np.float32),
    )


def sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    near, far = [slice(None)] * 3, [slice(None)] * 3
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    return tuple(near), tuple(far)


def numpy_steps(a: Arrays, steps: int, dose: bool) -> Callable[[], tuple[Single, Single]]:
    """So many steps at each call, going on where it was; temperatures and CEM43.

    No whole array is made on the way; dose is added where it is warm enough, at each step's end.
    """
    u, cem, change = a.rise_k.copy(), np.zeros_like(a.rise_k), np.empty_like(a.rise_k)
    flux = [np.empty_like(g) for g in a.faces]
    # The views are made once: (far side, near side) of the temperature and of its change.
    cuts = [sides(axis) for axis in range(3)]
    views = [
        (g, f, u[far], u[near], change[near], change[far])
        for g, f, (near, far) in zip(a.faces, flux, cuts, strict=True)
    ]

    def go() -> tuple[Single, Single]:
        for _ in range(steps):
            np.multiply(a.perfusion, u, out=change)
            np.subtract(a.source, change, out=change)
            for g, f, u_far, u_near, gains, loses in views:
                np.subtract(u_far, u_near, out=f)
                np.multiply(f, g, out=f)
                np.add(gains, f, out=gains)
                np.subtract(loses, f, out=loses)
            np.multiply(change, a.gain, out=change)
            np.add(u, change, out=u)
            if dose:
                warm = np.flatnonzero(u >= DOSE.from_c - BLOOD_C)
                over = u.ravel()[warm] - np.float32(43.0 - BLOOD_C)
                # 0.25 to the power is 0.5 to twice the power.
                over[over < 0] *= 2
                cem.ravel()[warm] += np.exp2(over) * np.float32(STEP_S / 60.0)
        return u, cem

    return go


def jax_steps(a: Arrays, steps: int, dose: bool) -> Callable[[], Any] | None:
    """The same in one compiled loop; None where JAX is not installed."""
    try:
        import jax  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    jnp = jax.numpy
    # Faces on both sides of each voxel, 0 at the rim, so that all is one expression of slices.
    low, high = [], []
    for axis, g in enumerate(a.faces):
        none = [(0, 0)] * 3
        before, after = list(none), list(none)
        before[axis], after[axis] = (1, 0), (0, 1)
        low.append(jnp.asarray(np.pad(g, before)))
        high.append(jnp.asarray(np.pad(g, after)))

    def one(_: int, held: Any, low: Any, high: Any, gain: Any, w: Any, q: Any) -> Any:
        state, cem = held
        padded = jnp.pad(state, 1)
        m, lo, hi = slice(1, -1), slice(None, -2), slice(2, None)
        total = q - w * state
        for axis in range(3):
            before, after = [m, m, m], [m, m, m]
            before[axis], after[axis] = lo, hi
            total += low[axis] * (padded[tuple(before)] - state)
            total += high[axis] * (padded[tuple(after)] - state)
        state = state + gain * total
        if dose:
            over = state - (43.0 - BLOOD_C)
            rate = jnp.exp2(jnp.where(over < 0, 2 * over, over)) * (STEP_S / 60.0)
            cem = cem + jnp.where(state >= DOSE.from_c - BLOOD_C, rate, 0.0)
        return state, cem

    @jax.jit
    def many(state: Any, *rest: Any) -> Any:
        return jax.lax.fori_loop(0, steps, lambda i, s: one(i, s, *rest), state)

    rest = (low, high, *map(jnp.asarray, (a.gain, a.perfusion, a.source)))
    held = [(jnp.asarray(a.rise_k), jnp.zeros(a.rise_k.shape if dose else (), jnp.float32))]

    def go() -> Any:
        held[0] = jax.block_until_ready(many(held[0], *rest))
        return held[0]

    return go


@numba.njit(parallel=True)
def _triad(a: Any, b: Any, c: Any, s: Any) -> None:
    for i in numba.prange(a.size):
        a[i] = b[i] + s * c[i]


def triads(passes: int) -> Callable[[], None]:
    """a = b + s c on float32 arrays of 100 MB, so many times."""
    n = TRIAD_BYTES // 16
    a, b, c = np.zeros(n, np.float32), np.ones(n, np.float32), np.ones(n, np.float32)

    def go() -> None:
        for _ in range(passes):
            _triad(a, b, c, np.float32(3.0))

    return go


# --- one explicit step: the problems --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of `heat-step`."""

    name: str
    n: int
    steps: int
    dose: bool = False
    lowest_c: float = BLOOD_C
    barred: bool = True

    @property
    def updates(self) -> int:
        return self.n**3 * self.steps

    @property
    def passes(self) -> int:
        """Triads that move nearly as many bytes as the floor asks for."""
        return max(1, round(BYTES * self.updates / TRIAD_BYTES))

    def floor_ns(self, triad_s: float) -> float:
        """The bytes of one update at the triad's bandwidth."""
        return BYTES * triad_s / (self.passes * TRIAD_BYTES) * 1e9

    def problem(self) -> Problem:
        start_c = warm_c(self.n, self.lowest_c)
        body = Bioheat(
            tissue(self.n),
            start_c=start_c,
            cem43=DOSE if self.dose else None,
            method="euler",
            longest_s=STEP_S,
        )
        given, source = arrays(self.n, start_c, STEP_S), source_w_m3(self.n).astype(np.float32)

        def ours() -> Bioheat:
            body.advance(self.steps * STEP_S, source_w_m3=source)
            return body

        peers: dict[str, Callable[[], Any]] = {NUMPY: numpy_steps(given, self.steps, self.dose)}
        fast = jax_steps(given, self.steps, self.dose)
        if fast is not None:
            peers[JAX] = fast
        peers[TRIAD] = triads(self.passes)
        # Half of the floor, as a ratio of times: the triads are a whole number and so not exact.
        half = LEAST_FLOOR * self.passes * TRIAD_BYTES / (BYTES * self.updates)
        bars = {NUMPY: 5.0, JAX: 4.0, TRIAD: half}
        return Problem(
            name=self.name,
            ours=ours,
            peers=peers,
            check=partial(agree, self),
            target_s=MOST_NS * 1e-9 * self.updates if self.n == 128 and self.barred else None,
            target_ratio={p: bars[p] for p in peers} if self.barred else {},
        )


STEPS = (
    Step(name="heat-step-128", n=128, steps=64),
    Step(name="heat-step-128-dose", n=128, steps=64, dose=True),
    Step(name="heat-step-128-dose-all", n=128, steps=64, dose=True, lowest_c=41.0, barred=False),
    Step(name="heat-step-256", n=256, steps=16),
    Step(name="heat-step-256-dose", n=256, steps=16, dose=True),
)


def agree(step: Step, body: Bioheat, peers: Mapping[str, Any]) -> tuple[bool, str]:
    """After the first call of each: the same steps, the same temperatures."""
    now, off = body.temperature_c, {}
    for name in (NUMPY, JAX):
        if name in peers:
            other = np.asarray(peers[name][0], np.float64) + BLOOD_C
            off[name] = float(np.abs(now - other).max())
    good = body.steps == step.steps and all(d <= WITHIN_K for d in off.values())
    doses = ""
    if step.dose:
        minutes = [float(np.asarray(peers[n][1], np.float64).sum()) for n in off]
        ours = float(body.cem43_min.sum())
        good &= all(abs(m / ours - 1) <= WITHIN_DOSE for m in minutes)
        doses = f"; dose in all {ours:.5g} min, theirs " + ", ".join(f"{m:.5g}" for m in minutes)
    apart = ", ".join(f"{d:.1e} K from {name}" for name, d in off.items())
    warm = 100 * float((now >= DOSE.from_c).mean())
    return good, (
        f"{body.steps} steps: {apart}; moved by up to "
        f"{np.abs(now - warm_c(step.n, step.lowest_c)).max():.2f} K; {warm:.1f} % of the voxels "
        f"count for the dose, now {float(body.peak_c.max()):.1f} degC at most{doses}"
    )


def per_voxel(step: Step, outcome: Outcome) -> str:
    """The row of figures for one voxel and step."""
    best = {name: t.best_s / step.updates * 1e9 for name, t in outcome.timings.items()}
    triad_s = outcome.timings[TRIAD].best_s
    floor, bar = step.floor_ns(triad_s), ""
    if outcome.problem.target_s is not None:
        bar = f" (bar {MOST_NS:g} {'met' if best['ours'] <= MOST_NS else 'MISSED'})"
    reached = floor / best["ours"]
    share = f"{reached:.0%} of the floor"
    if step.barred:
        share += f" (bar {LEAST_FLOOR:.0%} {'met' if reached >= LEAST_FLOOR else 'MISSED'})"
    others = ", ".join(f"{name} {best[name]:.2f}" for name in (NUMPY, JAX) if name in best)
    return (
        f"{step.name:<23} {best['ours']:.2f} ns{bar}; {others} ns; triad "
        f"{step.passes * TRIAD_BYTES / triad_s / 1e9:.1f} GB/s, floor {floor:.2f} ns; {share}"
    )


# --- ten minutes ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Heated:
    """Temperatures at the times looked at, and how they were reached."""

    body: Bioheat
    temperatures_c: tuple[Double, ...]


def heat(n: int, **how: Any) -> Heated:
    body = Bioheat(tissue(n), start_c=BLOOD_C, cem43=DOSE, shut_at_cem43=SHUT_MIN, **how)
    source, seen = source_w_m3(n), []
    for until_s in LOOKED_AT_S:
        body.advance(until_s - body.time_s, source_w_m3=source)
        seen.append(body.temperature_c)
    return Heated(body=body, temperatures_c=tuple(seen))


def near_reference(
    size: int, reference: int, found: Heated, peers: Mapping[str, Any]
) -> tuple[bool, str]:
    """The largest difference anywhere, at each of the times."""
    explicit = heat(reference, method="euler", longest_s=REFERENCE_S, dtype=np.float64)
    ours = found if reference == size else heat(reference, tolerance_k=TOLERANCE_K)
    off = [
        float(np.abs(a - b).max())
        for a, b in zip(ours.temperatures_c, explicit.temperatures_c, strict=True)
    ]
    shut = [int((h.body.cem43_min >= SHUT_MIN).sum()) for h in (ours, explicit)]
    at = ", ".join(f"{d:.4f} K at {s:g} s" for d, s in zip(off, LOOKED_AT_S, strict=True))
    return max(off) <= MOST_K, (
        f"{found.body.steps} steps of {found.body.stages} stages in all, explicit limit "
        f"{found.body.explicit_s:.3f} s, {found.body.peak_c.max():.1f} degC at most; at "
        f"{reference}^3 from explicit steps of {REFERENCE_S:g} s ({explicit.body.steps}): {at} "
        f"(bar {MOST_K:g}); {shut[0]} voxels dead, {shut[1]} there"
    )


def ten_minutes(size: int, full: bool) -> Problem:
    reference = size if full else min(size, CROP)
    return Problem(
        name=f"heat-600s-{size}",
        ours=lambda: heat(size, tolerance_k=TOLERANCE_K),
        check=partial(near_reference, size, reference),
        target_s=45.0 if size == 256 else None,
    )


def run() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=("step", "600s"))
    options, rest = parser.parse_known_args()
    if options.only != "600s":
        if importlib.util.find_spec("jax") is None:
            print("JAX is not installed", flush=True)
        else:
            print(f"JAX {metadata.version('jax')}, on all cores it finds", flush=True)
        outcomes = main([s.problem for s in STEPS], rest)
        print("# for one voxel and step", flush=True)
        for step, outcome in zip(STEPS, outcomes, strict=True):
            print(per_voxel(step, outcome), flush=True)
    if options.only != "step":
        main([partial(ten_minutes, options.size, options.full)], rest)


if __name__ == "__main__":
    run()
