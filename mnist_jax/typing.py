"""Type aliases."""

from typing import Any

# A pytree: nested containers of arrays, such as parameters.
Tree = Any
