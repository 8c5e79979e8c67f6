"""Seeds made of names, so that randomness hangs on what is computed and never on when or where."""

import hashlib


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) from the SHA-256 of the parts joined by "/": the same on every machine and process.

    `derive_seed(seed, epoch, name)` gives each image its own stream, however many workers or ranks there are.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
