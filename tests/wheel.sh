#!/usr/bin/env bash
# Test the wheel in dist/ in an empty environment, and in a folder that has a configs/ too:
# tests/wheel.sh UV PICTURE
set -euo pipefail
uv=$(realpath "$1") picture=$(realpath "$2") wheel=$(realpath dist/*.whl)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH
export VIRTUAL_ENV=$folder/env PATH=$folder/env/bin:$PATH
"$uv" venv --quiet env
"$uv" pip install --quiet "$wheel"

mkdir configs
cat > configs/mine.py <<'PYTHON'
from mnist_jax.configs import base, quickstart


def get_config(variant=""):
    config = quickstart.get_config()
    config.name = "mine"
    return base.with_variants(config, variant, {})
PYTHON
mnist-jax predict "$picture"
python -m mnist_jax predict "$picture"
for config in quickstart configs/mine.py; do
    mnist-jax train --config=$config --config.phases[0].epochs=1 --workdir=runs/$(basename $config)
done
mnist-jax compare runs
mnist-jax evaluate runs/quickstart
python -c 'import configs, mnist_jax; assert not hasattr(configs, "base"); mnist_jax.load_run("runs/mine.py")'
