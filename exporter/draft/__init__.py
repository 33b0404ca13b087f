"""A pipeline made from a module and what it is called with, instead of from a YAML.

``values`` names the arguments, ``axes`` finds by running which sizes may vary, ``guess`` finds
arguments where nobody gives any, ``content`` is the pipeline as plain data, ``text`` is its YAML.
"""
