import atexit


class Failing:
    def __call__(self) -> None:
        raise ValueError("at exit")

    def __repr__(self) -> str:
        return "failing"


atexit.register(print, "still called")
atexit.register(Failing())
raise RuntimeError("in main")
