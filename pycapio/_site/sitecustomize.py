"""Found by every Python that a launcher run starts: puts gates in place, then runs the next one.

Any Python may find this file, old ones too, so it keeps to what they all understand. The work is
done in _pycapio_gates.
"""

import os
import sys


def _start(here, module):  # type: ignore[no-untyped-def]  # annotations are not old enough
    sys.path[:] = [entry for entry in sys.path if entry != here]
    if sys.version_info >= (3, 10) and os.environ.get("CAPIO_DIR"):
        sys.path.insert(0, here)
        try:
            import _pycapio_gates  # type: ignore[import-not-found]

            _pycapio_gates.install()
        finally:
            sys.path.remove(here)
    # The sitecustomize that would have run without us, found as the interpreter would find it.
    del sys.modules[__name__]
    try:
        __import__(__name__)
    except ImportError as error:
        if getattr(error, "name", __name__) != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, module)


_start(  # type: ignore[no-untyped-call]
    os.path.dirname(os.path.abspath(__file__)), sys.modules[__name__]
)
