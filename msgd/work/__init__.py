"""The worker runtime: everything around a job that its worker need not know.

================  =========================================================================
``interface``     what a worker is: JobType, Context, outcomes
``functions``     a worker out of one async function: ``@job``
``runner``        all of the below as one part of a daemon
``parts``         what starts in order and stops in reverse
``floor``         what a process performs at this moment; drain
``lane``          the messages of one type, from their queues to their slots
``choice``        which of the waiting messages is performed next: pure
``performance``   one delivery, from its claim to its ack
``attempt``       one slice of one job, step by step
``context``       the attempt as its worker sees it
``emitter``       its events, each until it is confirmed
``progress``      how far it is, live
``heartbeat``     the signs of life of all running jobs of a process
``cancel``        ending a job within a second, from both sides
``solitude``      the one that must run alone, and all others
``outage``        waiting out an outage
``once``          something that happens once, for many who wait
``network``       the guard that keeps workers out of private networks
================  =========================================================================
"""

from msgd.jobs.interface import Need
from msgd.work.functions import FunctionWorker, job
from msgd.work.interface import Context, Continue, Done, Failed, JobType, Outcome, Retry, Wait, Worker

__all__ = [
    "Context",
    "Continue",
    "Done",
    "Failed",
    "FunctionWorker",
    "JobType",
    "Need",
    "Outcome",
    "Retry",
    "Wait",
    "Worker",
    "job",
]
