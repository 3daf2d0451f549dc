"""oci-unpack of a 1 GB image beside umoci: the most memory of all its processes"""

from __future__ import annotations

from tests.bench import unpack_big
from tests.bench.measure import together

BAR = 2.0
LIMIT = 80
ROUNDS = 2
IDLE = 1.0
TAKE, UNIT = together, "MB"
sides = unpack_big.sides
