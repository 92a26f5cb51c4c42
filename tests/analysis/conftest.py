"""Tests in folders below import the modules of this one."""
