"""Arrays in, arrays out: the only floor where speed is worked on."""

import os

# Two OpenMP threads that spin beside another busy process can end on one core and run many times
# slower; waiting passively costs nothing on a quiet machine. A thousand turns (some 25 us) are
# worth it all the same: short stretches of work follow each other, and a thread that has gone to
# sleep takes longer than that to wake. Must be set before Numba starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
