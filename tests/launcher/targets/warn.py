"""Warnings of the main module are shown, those of others are not."""

import warnings

warnings.warn("shown", DeprecationWarning, stacklevel=1)
warnings.warn("never", ImportWarning, stacklevel=1)
