"""Replaces functions of the standard library by proxies, and gives back exactly what was there.

This package knows nothing of CAPIO: it works on a list of `Replacement`. A `Patcher` counts its
users; the first one patches, the last one restores.

*What is replaced.* The named attribute of each owner, and every other reference to the same
function that somebody captured earlier: `from os import stat as s`, class attributes, static and
class methods, defaults, keyword defaults, closures, dicts, lists, `functools.partial`, attributes
of instances. They are found by identity, never by name. What cannot be rebound (a tuple, a set, a
key of a dict, a local variable of a running function) keeps the original; those that a module
holds are named by `Patcher.unreached`. Proxies that are classes replace their slot only.

*What is left alone.* Modules named by `exclude` with all that belongs to them, the proxies
themselves, and the C modules behind `os` and `io`: the import system works with those, and so a
search for modules never meets a proxy.

*Restoring* compares and swaps: a slot that somebody else changed in the meantime stays as it is.
What was captured while the proxies were in place stays a proxy, which must then act as the
original.
"""

from pycapio.patching.patcher import Patcher
from pycapio.patching.replacement import Replacement, proxy_for
from pycapio.patching.sites import Site

__all__ = ["Patcher", "Replacement", "Site", "proxy_for"]
