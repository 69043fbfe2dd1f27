from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor()
pool.submit(open, "never.txt").result()
