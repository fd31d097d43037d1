"""Who may read and publish what: the token's rights, one's own jobs, and what else decides (DESIGN §4.5).

Every door asks here, so that none is wider than another.
"""

from __future__ import annotations

from msgd.errors import NotFound
from msgd.jobs.interface import Job, Jobs
from msgd.messages.topics import is_word, job_of
from msgd.notifier.interface import Principal
from msgd.notifier.rooms.directory import RoomDirectory
from msgd.notifier.rooms.interface import room_of, room_topic


class Access:
    """Decides, for any principal."""

    def __init__(self, jobs: Jobs, rooms: RoomDirectory) -> None:
        self._jobs = jobs
        self.rooms = rooms

    async def check_read(self, who: Principal, pattern: str) -> Job | None:
        """Raises Forbidden or NotFound unless ``who`` may read a topic or pattern, Unavailable where that cannot be
        known now; returns the job of a job's topic."""
        job = job_of(pattern)
        if job is not None:
            return await self.job(who, job)
        who.require(who.may_read(pattern), f"reading {pattern}")
        self._check_room(who, pattern)
        return None

    def may_read(self, who: Principal, pattern: str) -> bool:
        """Whether it may by its grants, and as a member where it takes that; of one's own jobs they say nothing."""
        return who.may_read(pattern) and self.sees(who, pattern)

    def sees(self, who: Principal, topic: str) -> bool:
        """Whether an event of ``topic`` may be shown to ``who``, who reads a pattern that matches it."""
        room = room_of(topic)
        return room is None or self.rooms.admits(room, who.sub) or who.administers(room_topic(room))

    def check_publish(self, who: Principal, topic: str) -> None:
        """Raises Forbidden (Unavailable where that cannot be known now) unless ``who`` may publish to ``topic``."""
        who.require(who.may_publish(topic), f"publishing to {topic}")
        self._check_room(who, topic)

    def _check_room(self, who: Principal, pattern: str) -> None:
        room = room_of(pattern)
        if room is not None and not who.administers(room_topic(room)):
            self.rooms.check(room, who.sub)

    async def job(self, who: Principal, job: str) -> Job:
        """A job that ``who`` may see. Raises NotFound, also for one that is not theirs to know of."""
        if not is_word(job):
            raise no_job(job)
        found = await self._jobs.get(job)
        if not who.may_watch(job, found.owner):
            raise no_job(job)
        return found


def no_job(job: str) -> NotFound:
    """What is said of a job that does not exist, and of one that is none of the asker's business."""
    return NotFound(f"there is no job {job[:80]!r}, or it is not yours to see", where="id")
