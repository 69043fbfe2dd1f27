"""The launcher's own compiler flags do not reach the target."""


def function(argument: 1 + 1) -> None:  # type: ignore[valid-type]
    pass


print(function.__annotations__)
