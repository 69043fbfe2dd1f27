"""Classes and functions of the main module pickle by name, also while the interpreter ends."""

import atexit
import pickle
import sys


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def double(x: int) -> int:
    return 2 * x


def round_trip(when: str) -> None:
    point = pickle.loads(pickle.dumps(Point(3)))
    print(when, type(point) is Point, point.x, pickle.loads(pickle.dumps(double)) is double)
    print(when, Point.__module__, sys.modules["__main__"].Point is Point)


atexit.register(round_trip, "late")
round_trip("early")
