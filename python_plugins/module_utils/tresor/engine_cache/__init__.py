"""Compiled kernels of an engine, made on a build host with the same GPU: record and archive.

A part of type ``engine_cache`` holds two files: ``cache.json``, what the cache fits and which files
it has, and ``cache.tar`` with these files. One archive, because a cache has thousands of small
files whose names are longer than a bundle's paths may be.
"""
