"""Worker processes that find functions and classes of the main module."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


class Job:
    def __init__(self, number: int) -> None:
        self.number = number


def work(job: Job) -> tuple[int, str, list[str]]:
    return job.number**2, type(job).__module__, sys.argv


def fail(job: Job) -> None:
    raise ValueError(job.number)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    jobs = [Job(number) for number in range(4)]
    with context.Pool(2) as pool:
        print(pool.map(work, jobs))
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        print(list(executor.map(work, jobs)))
        print(repr(executor.submit(fail, jobs[3]).exception()))
    process = context.Process(target=sys.exit, args=(5,))
    process.start()
    process.join()
    print(process.exitcode)
