"""Print, for CMake, the paths of files of installed packages."""

import importlib.metadata
from pathlib import Path


def locate(distribution: str, name: str) -> str:
    """Return the path of an installed file, by the end of its name."""
    for file in importlib.metadata.files(distribution) or ():
        if file.as_posix().endswith(name):
            return str(Path(str(file.locate())).resolve())
    raise SystemExit(f"{distribution} has no {name}.")


headers = "include/xla/ffi/api/ffi.h", "include/oneapi/dnnl/dnnl.hpp"
print(
    importlib.metadata.version("jaxlib"),
    locate("jaxlib", headers[0]).removesuffix("/xla/ffi/api/ffi.h"),
    locate("onednn-devel-cpu-gomp", headers[1]).removesuffix("/oneapi/dnnl/dnnl.hpp"),
    locate("onednn-cpu-gomp", "libdnnl.so.3"),
    sep=";",
)
