"""A file in which a process notes what it is at, for the process that outlives its crash or sees it hang."""

import os


class Heartbeat:
    """The writer's side: a number that says what runs now. The file's time of change is a sign of life."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT)

    def beat(self, number: int) -> None:
        """Item number runs from now on; -1: none."""
        os.pwrite(self._handle, number.to_bytes(8, "little", signed=True), 0)

    def close(self) -> None:
        """Nothing runs any more."""
        self.beat(-1)
        os.close(self._handle)

    @staticmethod
    def last(path: str) -> int:
        """The number that was noted last, -1 if none."""
        with open(path, "rb") as file:
            data = file.read(8)
        return int.from_bytes(data, "little", signed=True) if data else -1
