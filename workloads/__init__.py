"""What one run is, and the cohort engine that trains many of them as one program."""

import os

# Without it MKL sums in another order where a member's product does not start on a 16-byte boundary,
# so a run of odd shape would get other bits in other slots. Measured free; read at the first product.
os.environ.setdefault("MKL_CBWR", "AUTO")
