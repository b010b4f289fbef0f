"""The command line."""

from bench.cli.app import main as main
