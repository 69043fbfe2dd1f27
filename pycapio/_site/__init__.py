"""What the launcher puts first on PYTHONPATH, so that child Pythons are intercepted, too.

The directory is taken off ``sys.path`` again by its own sitecustomize, before anything of the
child's runs. Nothing here imports the rest of pycapio before the child touches CAPIO_DIR.
"""
