"""Seeds derived from names, so that random numbers depend on neither order nor process."""

import hashlib


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) from the SHA-256 of the parts joined by "/", the same on every machine and process.

    `derive_seed(seed, epoch, name)` gives each image its own random stream for any number of workers and ranks.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: torch's seeds are signed
