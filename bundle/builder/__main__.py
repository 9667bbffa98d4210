"""Entry point of ``python -m bundle.builder``."""

from bundle.builder.cli import main

raise SystemExit(main())
