"""Arrays in, arrays out: the only floor where speed is worked on."""

import os

# Two OpenMP threads that spin beside another busy process can end on one core and run many times
# slower; waiting passively costs nothing on a quiet machine. Must be set before Numba starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
