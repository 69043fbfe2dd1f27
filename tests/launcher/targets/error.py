"""An error some calls deep, through a module of its own."""

import json


def parse(text: str) -> object:
    return json.loads(text)


print("before")
parse("{")
