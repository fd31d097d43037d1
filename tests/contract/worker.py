"""What the runtime promises to workers and to those who submit jobs, on every broker and database."""

from __future__ import annotations

from tests.contract.worker_holding import HoldingContract
from tests.contract.worker_performing import PerformingContract
from tests.contract.worker_taking import TakingContract


class WorkerContract(PerformingContract, HoldingContract, TakingContract):
    """Mix into a trial TestCase that says which database and which broker."""
