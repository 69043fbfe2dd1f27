import sys

print(sys.stdin.readline().upper(), len(sys.stdin.read()), input.__module__)
