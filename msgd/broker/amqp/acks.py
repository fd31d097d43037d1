"""Which acknowledgements to write, without I/O: as few as order permits.

Delivery tags of a channel count up from 1. ``basic.ack`` with ``multiple`` settles every tag up to its own, so one ack
says it all when messages are finished in order; what is finished ahead of a slower one is acked singly.
"""

from __future__ import annotations


class Acks:
    """The settled deliveries of one channel."""

    def __init__(self) -> None:
        self._floor = 0  # all tags up to this one are settled, and the broker knows
        self._told: set[int] = set()  # above the floor: settled, and the broker knows
        self._new: set[int] = set()  # acked, and the broker does not know

    @property
    def floor(self) -> int:
        """Every tag up to this one is settled, and the broker was told."""
        return self._floor

    def ack(self, tag: int) -> None:
        """``tag`` is done with; the broker is told by the next :meth:`take`."""
        self._new.add(tag)

    def settled(self, tag: int) -> None:
        """The broker was told about ``tag`` in another way (``basic.nack``)."""
        self._told.add(tag)

    def take(self) -> tuple[int, list[int]]:
        """What to tell the broker now: the tag of an ack with ``multiple`` (0: none), and tags to ack singly."""
        new, told = self._new, self._told
        multiple = 0
        tag = self._floor + 1
        while True:
            if tag in new:
                new.remove(tag)
                multiple = tag  # a tag that the broker still holds: it refuses any other
            elif tag in told:
                told.remove(tag)
            else:
                break
            tag += 1
        self._floor = tag - 1
        singles = sorted(new)
        told.update(new)
        new.clear()
        return multiple, singles
