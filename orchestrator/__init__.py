"""Which runs, where and when: sweep files, plans, launchers and the `eureka` command."""

__version__ = "0.1.0"
