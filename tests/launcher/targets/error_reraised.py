"""The same exception twice on its way out."""


def fail() -> None:
    raise ValueError("no")


try:
    fail()
except ValueError:
    print("seen")
    raise
