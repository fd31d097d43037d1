"""The contract of ``msgd.jobs.interface.Jobs``, run on every implementation.

A test class mixes :class:`JobsContract` into a trial ``TestCase`` and names a database. Time is a Clock that only a
test moves; what was to be published is in ``self.posted``.
"""

from __future__ import annotations

from tests.contract.jobs_asking import AskingContract
from tests.contract.jobs_claiming import ClaimingContract
from tests.contract.jobs_dead import DeadLettersContract
from tests.contract.jobs_ending import EndingContract
from tests.contract.jobs_performing import PerformingContract
from tests.contract.jobs_upkeep import UpkeepContract


class JobsContract(
    AskingContract, ClaimingContract, PerformingContract, EndingContract, UpkeepContract, DeadLettersContract
):
    """What Jobs promises."""
