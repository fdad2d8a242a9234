"""DOLFINx with PETSc's GAMG on a box of bricks; `fe_voxels.py` runs it on two processes.

Run by the machine's own Python (Debian's python3-dolfinx-real), not by the project's. It makes its
mesh and compiles its forms, then waits for a file ``go-0``, ``go-1``, ... in its folder; for each
it assembles, sets up, solves and leaves the reaction on the upper face (N) in ``done-0``, ...
Waiting is by sleep: MPI's own waiting would keep the cores busy while others are timed.

    mpirun -np 2 python3 fe_dolfinx.py FOLDER
"""

# mypy: ignore-errors

import sys
import time
from pathlib import Path

import numpy as np
import ufl
from dolfinx import fem, la, mesh
from mpi4py import MPI
from petsc4py import PETSc

POISSON, IDLE_S = 0.3, 900.0


def rigid(space) -> PETSc.NullSpace:
    """The six motions that strain nothing, for the aggregation."""
    modes = [fem.Function(space) for _ in range(6)]
    for c in range(3):
        modes[c].interpolate(
            lambda x, c=c: np.stack([np.full(x.shape[1], float(c == d)) for d in range(3)])
        )
        a, b = (c + 1) % 3, (c + 2) % 3

        def turn(x, a=a, b=b):
            out = np.zeros((3, x.shape[1]))
            out[a], out[b] = -x[b], x[a]
            return out

        modes[3 + c].interpolate(turn)
    vectors = [mode.vector for mode in modes]
    la.orthonormalize(vectors)
    return PETSc.NullSpace().create(vectors=vectors, comm=space.mesh.comm)


def main(folder: Path) -> None:
    comm = MPI.COMM_WORLD
    given = np.load(folder / "given.npz")
    young, pushed = given["young"], float(given["pushed"])
    n = young.shape[0]
    box = mesh.create_box(comm, [[0, 0, 0], [n, n, n]], [n, n, n], mesh.CellType.hexahedron)
    cells = np.arange(box.topology.index_map(3).size_local + box.topology.index_map(3).num_ghosts)
    middle = np.floor(mesh.compute_midpoints(box, 3, cells.astype(np.int32))).astype(int)
    modulus = fem.Function(fem.FunctionSpace(box, ("DG", 0)))
    modulus.x.array[:] = young[middle[:, 2], middle[:, 1], middle[:, 0]]
    space = fem.VectorFunctionSpace(box, ("CG", 1))
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    lame = modulus * POISSON / ((1 + POISSON) * (1 - 2 * POISSON))
    shear = modulus / (2 * (1 + POISSON))

    def stiffness(u, v):
        a, b = ufl.sym(ufl.grad(u)), ufl.sym(ufl.grad(v))
        return (lame * ufl.tr(a) * ufl.tr(b) + 2 * shear * ufl.inner(a, b)) * ufl.dx(degree=2)

    left = fem.form(stiffness(u, v))
    found = fem.Function(space)
    told = fem.form(stiffness(found, v))
    right = fem.form(ufl.inner(fem.Constant(box, np.zeros(3)), v) * ufl.dx)
    ends = {}
    for name, at in (("bottom", 0.0), ("top", float(n))):
        facets = mesh.locate_entities_boundary(box, 2, lambda x, at=at: np.isclose(x[2], at))
        ends[name] = fem.locate_dofs_topological(space, 2, facets)
    fixed = [
        fem.dirichletbc(np.zeros(3), ends["bottom"], space),
        fem.dirichletbc(np.array([0.0, 0.0, -pushed]), ends["top"], space),
    ]

    owned = space.dofmap.index_map.size_local

    for turn in range(1000):
        until = time.monotonic() + IDLE_S
        while not (folder / f"go-{turn}").exists():
            if time.monotonic() > until or not folder.exists():
                return
            time.sleep(0.005)
        found.x.array[:] = 0.0
        matrix = fem.petsc.assemble_matrix(left, bcs=fixed)
        matrix.assemble()
        matrix.setNearNullSpace(rigid(space))
        b = fem.petsc.assemble_vector(right)
        fem.petsc.apply_lifting(b, [left], bcs=[fixed])
        b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        fem.petsc.set_bc(b, fixed)
        solver = PETSc.KSP().create(comm)
        solver.setType("cg")
        solver.setTolerances(rtol=1e-6, max_it=500)
        solver.getPC().setType("gamg")
        options = PETSc.Options()
        options["mg_levels_ksp_type"] = "chebyshev"
        options["mg_levels_pc_type"] = "jacobi"
        solver.setFromOptions()
        solver.setOperators(matrix)
        solver.solve(b, found.vector)
        found.x.scatter_forward()
        force = fem.petsc.assemble_vector(told)
        force.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        mine = ends["top"][ends["top"] < owned]
        total = comm.allreduce(float(force.array.reshape(-1, 3)[mine, 2].sum()))
        if comm.rank == 0:
            text = f"{total!r} {solver.getIterationNumber()} {solver.getConvergedReason()}"
            (folder / "writing").write_text(text)
            (folder / "writing").rename(folder / f"done-{turn}")
        for thing in (solver, matrix, b, force):
            thing.destroy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
