"""A process to be killed: writes pairs of rows for ever, and prints each pair's number once it was told it is safe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from msgd.database import Database, Transaction


def prepare(transaction: Transaction) -> None:
    transaction.execute(text("CREATE TABLE IF NOT EXISTS pairs (number INTEGER)"))


def first(transaction: Transaction) -> int:
    found: int | None = transaction.execute(text("SELECT max(number) FROM pairs")).scalar_one()
    return 0 if found is None else found + 1


def add(transaction: Transaction, numbers: Sequence[int]) -> Sequence[int]:
    for _ in range(2):
        transaction.execute(text("INSERT INTO pairs VALUES (:number)"), [{"number": number} for number in numbers])
    return numbers


async def main(reactor: Any, path: str) -> None:
    database = Database(f"sqlite:///{path}", reactor=reactor, prepare=prepare)
    await database.start()
    group = database.group(add)
    number = await database.read(first)
    while True:
        told = await gatherResults([Deferred.fromCoroutine(group(number + more)) for more in range(20)])
        os.write(1, b"".join(b"%d\n" % one for one in told))
        number += len(told)


if __name__ == "__main__":
    task.react(lambda reactor, path: Deferred.fromCoroutine(main(reactor, path)), sys.argv[1:])
