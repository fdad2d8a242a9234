"""`fe-*`: voxel finite elements of bone beside ParOSol, and beside assembled matrices.

Boxes of n^3 voxels, Poisson's ratio 0.3; the lower face held, the upper pushed in by 1 %. `block`
is bone everywhere, 100 MPa to 20 GPa, log-normal; `vertebra` an elliptic body with a shell of
12 GPa, trabecular noise of 50 to 3000 MPa, a cavity of 5 MPa with a hole in it, a drop of cement of
2.5 GPa and void around; `trabecular` plates and rods of 10 GPa in void, a quarter of it bone, as
fine as gives the 0.39 million free displacements of the structure that the bar was set with;
`struts`, for which there is no bar, as much bone in thin and often dangling struts. Ours is
setting up and solving, to the same residual of 1e-6 as the peers (and, told beside it, to its own
default of 1e-8).

ParOSol runs as two processes of its own program on a file written before; its reading of it and its
own set-up are counted, as its users wait for them. It is under the GPL and no dependency of
anything here: `pip install parosol-py` where it is to be compared. On `block` DOLFINx with GAMG
runs as two processes of the machine's own Python (Debian's python3-dolfinx-real): what counts is
assembling, setting up and solving, not its mesh. `--slow` adds scikit-fem with PyAMG (rigid-body
modes) on `block`, which takes minutes.

Gates: at 12^3 the displacements of a direct solution; at full size the peer's reaction; how many
iterations it takes as the tumour's stiffness goes to nothing.

    python benchmarks/fe_voxels.py --threads 2 --repeats 3
    python benchmarks/fe_voxels.py --only vertebra --size 176 --repeats 1
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness import Problem, main
from trocar.kernels import bricks, elastic

PAROSOL, ASSEMBLED = "ParOSol, two processes", "scikit-fem + PyAMG smoothed aggregation"
DOLFINX = "DOLFINx + GAMG, two processes"
SYSTEM_PYTHON, PATIENCE_S = "/usr/bin/python3", 900.0
POISSON, PUSHED = 0.3, 0.01  # the upper face, a share of the height
TOLERANCE, REACTION_WITHIN = 1e-6, 2e-3
MPA_PER_GPA = 1000.0
PRODUCTS = 30  # at a time: one is over before the clock is sure of it
Double = NDArray[np.float64]


# --- problems -------------------------------------------------------------------------------------


def block(n: int) -> Double:
    rng = np.random.default_rng(0)
    out: Double = np.clip(1500.0 * np.exp(1.2 * rng.standard_normal((n, n, n))), 100.0, 20_000.0)
    return out


def vertebra(n: int, tumour_mpa: float = 5.0) -> Double:
    rng = np.random.default_rng(1)
    z, y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n * 2 - 1] * 3, indexing="ij")
    r = np.sqrt((x / 0.9) ** 2 + (y / 0.75) ** 2)
    e = 50.0 + 2950.0 * rng.random((n, n, n)) ** 2
    e[r > 1 - 3.0 / n] = 12_000.0
    e[(np.abs(z) > 1 - 3.0 / n)] = 12_000.0
    cavity = np.sqrt((x - 0.2) ** 2 + (y + 0.1) ** 2 + z**2)
    e[cavity < 0.35] = tumour_mpa
    e[cavity < 0.15] = 0.0
    e[np.sqrt((x + 0.35) ** 2 + (y - 0.2) ** 2 + (z + 0.2) ** 2) < 0.25] = 2500.0
    e[r > 1] = 0.0
    return e


def trabecular(n: int) -> Double:
    """What lies about the surface on which a smooth random field is 0: it hangs together."""
    noise = np.abs(_smooth(n, 2.4))
    return _largest_part(noise < np.quantile(noise, 0.25))


def struts(n: int) -> Double:
    """What lies above a level of a smooth random field, near the level where it falls to pieces."""
    noise = _smooth(n, 3.0)
    return _largest_part(noise > np.quantile(noise, 0.75))


def _smooth(n: int, voxels: float) -> Double:
    out: Double = ndimage.gaussian_filter(
        np.random.default_rng(2).standard_normal((n, n, n)), voxels
    )
    return out


def _largest_part(bone: NDArray[np.bool_]) -> Double:
    parts, _ = ndimage.label(bone)
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return np.where(parts == largest, 10_000.0, 0.0)


BONES: dict[str, Callable[[int], Double]] = {
    "block": block, "vertebra": vertebra, "trabecular": trabecular, "struts": struts,
}  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Pressed:
    """What a solver is given: moduli, held components, and how far they are moved."""

    name: str
    young: Double
    held: NDArray[np.bool_]
    moved: Double

    @classmethod
    def of(cls, name: str, young: Double) -> Pressed:
        shape = young.shape
        bottom = elastic.face_nodes(shape, 0, 0)  # type: ignore[arg-type]
        top = elastic.face_nodes(shape, 0, -1)  # type: ignore[arg-type]
        moved = np.zeros((3, *(n + 1 for n in shape)))
        moved[0][top] = -PUSHED * shape[0]
        return cls(name=name, young=young, held=elastic.hold(bottom | top), moved=moved)


def ours(case: Pressed, tolerance: float = TOLERANCE) -> elastic.Solution:
    body = elastic.Body(case.young, POISSON, spacing_mm=(1.0, 1.0, 1.0), held=case.held)
    return body.solve(case.moved, tolerance=tolerance, most=2000)


def reaction_n(solution: elastic.Solution) -> float:
    half = solution.reaction_n[0]
    return float(half[half.shape[0] // 2 :].sum())


# --- peers ----------------------------------------------------------------------------------------


def parosol(case: Pressed) -> Callable[[], float] | None:
    """Its reaction (N) on the upper face; None where it is not installed."""
    if importlib.util.find_spec("parosol_py") is None:
        return None
    files, runner = (importlib.import_module(f"parosol_py.{m}") for m in ("hdf5_io", "runner"))
    folder = Path(tempfile.mkdtemp())
    nodes = elastic.nodes_of(case.young > 0)
    at = np.argwhere(case.held & nodes)  # component, z, y, x
    # It counts x, y, z.
    coordinates = np.stack([at[:, 3], at[:, 2], at[:, 1], 2 - at[:, 0]], axis=1)
    given = files.write_parosol_input(
        folder / "given.h5",
        stiffness_gpa_xyz=np.swapaxes(case.young, 0, 2) / MPA_PER_GPA,
        fixed_displacement_coordinates=coordinates,
        fixed_displacement_values=case.moved[tuple(at.T)],
        voxel_size_mm=1.0,
        poisson_ratio=POISSON,
    )

    def go() -> float:
        work = folder / "work.h5"
        shutil.copy(given, work)
        command = runner.build_parosol_command(
            executable=runner.packaged_executable(), input_file=work, outputs=("forces",),
            tolerance=TOLERANCE, mpi_processes=2,
        )  # fmt: skip
        told = runner.run_parosol(command)
        if told.returncode != 0:
            raise RuntimeError(f"ParOSol ended with {told.returncode}: {told.stderr[-500:]}")
        return _their_reaction(work, case)

    return go


def _their_reaction(path: Path, case: Pressed) -> float:
    """Forces along z over the upper half, N."""
    h5py = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        force = np.asarray(file["Solution/force"])
        at = np.asarray(file["Mesh/Coordinates"])
    # Columns z, y, x of the file, or x, y, z: the one in which the pushed face is farthest up.
    height = case.young.shape[0]
    sums = [float(force[at[:, c] > height / 2, c].sum()) for c in (0, 2)]
    return max(sums, key=abs)


@cache
def _assembled(n: int) -> Pressed:
    return Pressed.of("block", block(n))


def scikit_fem(case: Pressed) -> Callable[[], float] | None:
    """Assembles the same bricks and solves them with smoothed aggregation and rigid-body modes."""
    if any(importlib.util.find_spec(m) is None for m in ("skfem", "pyamg")):
        return None
    pyamg, skfem = importlib.import_module("pyamg"), importlib.import_module("skfem")
    helpers = importlib.import_module("skfem.helpers")

    def go() -> float:
        n = case.young.shape[0]
        lines = np.arange(n + 1, dtype=float)
        mesh = skfem.MeshHex.init_tensor(lines, lines, lines)
        basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementHex1()), intorder=2)
        middle = mesh.p[:, mesh.t].mean(axis=1)
        i = np.floor(middle).astype(int)
        e = case.young[i[2], i[1], i[0]]
        lame = e * POISSON / ((1 + POISSON) * (1 - 2 * POISSON))
        shear = e / (2 * (1 + POISSON))
        shape = (e.size, basis.X.shape[-1])

        @skfem.BilinearForm
        def stiffness(u: Any, v: Any, w: Any) -> Any:
            a, b = helpers.sym_grad(u), helpers.sym_grad(v)
            return w.lame * helpers.trace(a) * helpers.trace(b) + 2 * w.shear * helpers.ddot(a, b)

        k = stiffness.assemble(
            basis, lame=np.broadcast_to(lame[:, None], shape),
            shear=np.broadcast_to(shear[:, None], shape),
        )  # fmt: skip
        z = mesh.p[2]
        u = np.zeros(k.shape[0])
        top, bottom = np.flatnonzero(z == n), np.flatnonzero(z == 0)
        u[basis.nodal_dofs[2][top]] = -PUSHED * n
        held = np.concatenate(
            [basis.nodal_dofs[:, top].ravel(), basis.nodal_dofs[:, bottom].ravel()]
        )
        free = np.setdiff1d(np.arange(u.size), held)
        inner = k[free][:, free].tocsr()
        modes = np.zeros((u.size, 6))
        p = mesh.p - mesh.p.mean(axis=1, keepdims=True)
        for c in range(3):
            modes[basis.nodal_dofs[c], c] = 1.0
            a, b = (c + 1) % 3, (c + 2) % 3
            modes[basis.nodal_dofs[a], 3 + c] = -p[b]
            modes[basis.nodal_dofs[b], 3 + c] = p[a]
        solver = pyamg.smoothed_aggregation_solver(inner, B=modes[free])
        u[free] = solver.solve(-(k[free] @ u), tol=TOLERANCE, accel="cg", maxiter=500)
        return float((k @ u)[basis.nodal_dofs[2][top]].sum())

    return go


def dolfinx(case: Pressed) -> Callable[[], float] | None:
    """Its reaction (N); the mesh is made and the forms are compiled before the clock starts."""
    asked = [SYSTEM_PYTHON, "-c", "import dolfinx, petsc4py; print(dolfinx.__version__)"]
    if shutil.which("mpirun") is None or not Path(SYSTEM_PYTHON).exists():
        return None
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        return None
    print(f"DOLFINx {told.stdout.strip()}", flush=True)
    folder = Path(tempfile.mkdtemp())
    np.savez(folder / "given.npz", young=case.young, pushed=PUSHED * case.young.shape[0])
    plain = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("fe_dolfinx.py")
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    running = subprocess.Popen(
        ["mpirun", *as_root, "-np", "2", SYSTEM_PYTHON, str(script), str(folder)],
        env=plain, stdin=subprocess.DEVNULL, stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    atexit.register(running.terminate)
    turns = itertools.count()

    def go() -> float:
        turn = next(turns)
        (folder / f"go-{turn}").touch()
        done, until = folder / f"done-{turn}", time.monotonic() + PATIENCE_S
        while not done.exists():
            if running.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"DOLFINx ended or hangs: {(folder / 'log').read_text()[-3000:]}"
                )
            time.sleep(0.005)
        return float(done.read_text().split()[0])

    return go


# --- gates ----------------------------------------------------------------------------------------


@cache
def direct() -> tuple[bool, str]:
    """A small vertebra with void, by a sparse direct solution of the same matrix."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    case = Pressed.of("vertebra", vertebra(12))
    body = elastic.Body(case.young, POISSON, spacing_mm=(1.0, 1.0, 1.0), held=case.held)
    found = body.solve(case.moved, tolerance=1e-10)
    free = np.flatnonzero((elastic.nodes_of(body.kept) & ~case.held).ravel())
    size = case.moved.size
    columns = []
    for d in free:
        unit = np.zeros(size)
        unit[d] = 1.0
        columns.append(
            sparse.csc_matrix(body.internal_n(unit.reshape(case.moved.shape)).ravel()[free, None])
        )
    matrix = sparse.hstack(columns).tocsc()
    touched = np.where(elastic.nodes_of(body.kept), case.moved, 0.0)
    u = spsolve(matrix, -body.internal_n(touched).ravel()[free])
    off = float(np.abs(found.displacement_mm.ravel()[free] - u).max() / np.abs(u).max())
    return off <= 1e-6, f"{off:.0e} of the largest displacement from a direct solution at 12^3"


@cache
def contrasts(n: int) -> str:
    iterations = []
    for mpa in (500.0, 50.0, 5.0, 0.5, 0.05, 0.0):
        case = Pressed.of("vertebra", vertebra(n, mpa))
        iterations.append(ours(case).iterations)
    return "iterations with a tumour of 500, 50, 5, 0.5, 0.05, 0 MPa: " + ", ".join(
        map(str, iterations)
    )


def agree(case: Pressed, found: elastic.Solution, peers: Mapping[str, Any]) -> tuple[bool, str]:
    good, text = direct()
    mine = reaction_n(found)
    told = [text, f"{found.iterations} iterations, reaction {mine:.6g} N"]
    for name, theirs in peers.items():
        off = abs(abs(theirs) / abs(mine) - 1)
        good &= off <= REACTION_WITHIN
        told.append(f"{name.split(',')[0]} {abs(theirs):.6g} N ({off:.1e})")
    start = time.perf_counter()
    sure = ours(case, 1e-8)
    told.append(f"to 1e-8 {time.perf_counter() - start:.2f} s, {sure.iterations} iterations")
    free = 3 * int(np.count_nonzero(elastic.nodes_of(case.young > 0)))
    told.append(f"{free / 1e6:.2f} million DOF")
    if case.name == "vertebra" and case.young.shape[0] == 64:
        told.append(contrasts(64))
    return good, "; ".join(told)


def matvec(n: int) -> Problem:
    """One product with the stiffness matrix in float32."""
    rng = np.random.default_rng(0)
    body = elastic.Body(
        block(n), POISSON, spacing_mm=(1.0, 1.0, 1.0),
        held=elastic.hold(elastic.face_nodes((n, n, n), 0, 0)),
    )  # fmt: skip
    u = rng.standard_normal((3, n + 1, n + 1, n + 1)).astype(np.float32)
    out = np.empty_like(u)
    level, ratio = body._levels[0], body._ratio.astype(np.float32)

    def ours() -> Any:
        for _ in range(PRODUCTS):
            bricks.product(u, level.lame, level.shear, ratio, out)
        return out

    def check(found: Any, _: Mapping[str, Any]) -> tuple[bool, str]:
        exact = np.empty(u.shape)
        bricks.product(u.astype(float), body._lame, body._shear, body._ratio, exact)
        scale = float(np.abs(exact).max())
        unit = float(np.abs(exact).max() / np.abs(found).max())
        off = float(np.abs(found * unit - exact).max() / scale)
        return off < 1e-5, f"{off:.0e} from float64; {PRODUCTS} products"

    return Problem(
        name=f"fe-matvec-{n}", ours=ours, check=check, target_s=3e-9 * n**3 * PRODUCTS,
        bytes_moved=44.0 * n**3 * PRODUCTS,
    )  # fmt: skip


def problem(name: str, n: int, slow: bool) -> Problem:
    case = Pressed.of(name, BONES[name](n))
    peers: dict[str, Callable[[], Any]] = {}
    bars: dict[str, float] = {}
    theirs = parosol(case)
    if theirs is not None:
        peers[PAROSOL] = theirs
        if name != "struts":
            bars[PAROSOL] = 15.0 if name == "trabecular" or n >= 176 else 10.0
    if name == "block":
        finite = dolfinx(case)
        if finite is not None:
            peers[DOLFINX], bars[DOLFINX] = finite, 50.0
    if slow and name == "block":
        assembled = scikit_fem(case)
        if assembled is not None:
            peers[ASSEMBLED], bars[ASSEMBLED] = assembled, 100.0
    return Problem(
        name=f"fe-{name}-{n}", ours=partial(ours, case), peers=peers, check=partial(agree, case),
        target_ratio=bars,
    )  # fmt: skip


def run() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", choices=("matvec", *BONES))
    parser.add_argument("--size", type=int)
    parser.add_argument("--slow", action="store_true")
    options, rest = parser.parse_known_args()
    for package in ("parosol-py", "scikit-fem", "pyamg"):
        try:
            print(f"{package} {metadata.version(package)}", flush=True)
        except metadata.PackageNotFoundError:
            print(f"{package} is not installed", flush=True)
    usual = [("block", 64), ("vertebra", 64), ("vertebra", 96), ("trabecular", 64), ("struts", 64)]
    wanted = [(options.only, options.size or 64)] if options.only else usual
    if options.only in (None, "matvec"):
        sizes = [options.size] if options.size else [64, 128]
        main([partial(matvec, n) for n in sizes], rest)
    if options.only != "matvec":
        main([partial(problem, name, n, options.slow) for name, n in wanted], rest)


if __name__ == "__main__":
    numba.config.THREADING_LAYER = "default"
    run()
