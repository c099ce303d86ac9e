"""Names for what Python's types cannot say here."""

from typing import Any

# A pytree: nested containers of arrays, such as parameters.
Tree = Any

# An ml_collections.ConfigDict with the fields of configs/base.py. Its own type would
# call every field a union of all that a field can be.
Config = Any
