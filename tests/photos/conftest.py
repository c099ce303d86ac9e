"""Photographs are made of the official images."""

from tests.support.official_files import official, official_dir

__all__ = ["official", "official_dir"]
