def first() -> None:
    raise KeyError("first")


def second() -> None:
    try:
        first()
    except KeyError as error:
        raise ValueError("second") from error


def third() -> None:
    try:
        second()
    except ValueError:
        raise RuntimeError("third")  # noqa: B904 (the implicit context is what is shown)


third()
