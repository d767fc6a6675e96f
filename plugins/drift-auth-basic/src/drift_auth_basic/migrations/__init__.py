"""The tables of this plugin, from their beginning."""
