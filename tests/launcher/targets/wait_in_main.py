open("never.txt")
