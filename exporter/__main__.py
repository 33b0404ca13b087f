"""``python -m exporter``: the same as the command ``export-verify``."""

from exporter.cli import entry

if __name__ == "__main__":
    entry()
