"""A thread that works only once the main thread has ended."""

import threading


def late() -> None:
    threading.main_thread().join()
    print("main thread is done;", MESSAGE)
    raise ValueError("in the thread")


MESSAGE = "globals are alive"
threading.Thread(target=late, name="late").start()
