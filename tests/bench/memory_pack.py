"""oci-pack of 500 MB beside umoci: the most memory of all its processes"""

from __future__ import annotations

from tests.bench import pack
from tests.bench.measure import together

BAR = 1.0
LIMIT = 80
ROUNDS = 1
IDLE = 1.0
TAKE, UNIT = together, "MB"
sides = pack.sides
