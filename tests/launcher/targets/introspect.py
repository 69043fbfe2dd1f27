"""The tools that look for the main module and its source."""

import dataclasses
import doctest
import inspect
import io
import typing
import unittest


@dataclasses.dataclass
class Record:
    """A record.

    >>> Record(1)
    Record(number=1)
    """

    number: "int"


class Case(unittest.TestCase):
    def test_record(self) -> None:
        self.assertEqual(Record(1).number, 1)


print(inspect.getsource(Record))
print(typing.get_type_hints(Record))
print(doctest.testmod())
runner = unittest.TextTestRunner(stream=io.StringIO())
print(unittest.main(testRunner=runner, exit=False).result)
