"""The contract of ``msgd.broker.interface``, run on every implementation.

A test class mixes :class:`BrokerContract` into a trial ``TestCase`` and says how to make a broker. Each test has a
store of messages to itself (a vhost, a file); :meth:`BrokerContract.make_broker` opens it, again after an earlier
broker was stopped. Only one broker of a test is open at a time, because the embedded one lives in one process.
"""

from __future__ import annotations

from tests.contract.broker_consuming import ConsumingContract
from tests.contract.broker_delivering import DeliveringContract
from tests.contract.broker_standing import StandingContract


class BrokerContract(DeliveringContract, ConsumingContract, StandingContract):
    """What a broker promises."""
