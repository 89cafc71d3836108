"""How often a randomised test tries: BUDGETNET_TRIALS multiplies every number, 1 by default."""

import os


def trials(count: int) -> int:
    """`count` times BUDGETNET_TRIALS, and at least one: 0.1 is a glance, 7 the long run of a release."""
    return max(1, round(count * float(os.environ.get("BUDGETNET_TRIALS", "1"))))
