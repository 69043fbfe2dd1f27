"""The order of everything that happens after the last line."""

import atexit
import sys
import threading

LIST = [1, 2]


class Witness:
    def __del__(self) -> None:
        print("deleted")


def last_words(word: str) -> None:
    print(word, LIST, __name__, sys.modules["__main__"].LIST is LIST)


def late() -> None:
    threading.main_thread().join()
    import sibling

    print("thread", LIST, sibling.NAME)


witness = Witness()
atexit.register(last_words, "one")
atexit.register(last_words, "two")
threading.Thread(target=late).start()
print("end of main")
