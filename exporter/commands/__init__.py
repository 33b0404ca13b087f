"""One file per subcommand of ``export-verify``; see ``exporter.cli.CommandFiles``."""
