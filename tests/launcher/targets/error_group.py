def fail(number: int) -> None:
    raise ValueError(number)


def collect() -> None:
    errors = []
    for number in range(3):
        try:
            fail(number)
        except ValueError as error:
            error.add_note(f"note {number}")
            errors.append(error)
    raise ExceptionGroup("three", errors)  # noqa: F821 (new in Python 3.11)


collect()
