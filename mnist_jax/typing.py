"""Names for what Python's types cannot say here."""

from typing import Any

# A pytree: nested containers of arrays, such as parameters.
Tree = Any
