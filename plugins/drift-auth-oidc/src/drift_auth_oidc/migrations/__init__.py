"""The tables of this plugin, one revision after the other."""
