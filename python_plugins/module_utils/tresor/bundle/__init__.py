"""Bundle: the signed set of files that crosses the air gap, and the importer that takes it in.

The trust core (``errors``, ``canonical``, ``paths``, ``manifest``, ``trust``) is pure: bytes in,
values or a named error out. Files, processes and clocks stay in the other modules.
"""
